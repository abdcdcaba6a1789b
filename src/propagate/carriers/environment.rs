//! Variables of the environment, which take a context to a child process.

use std::{env, ffi::OsString, fmt, process::Command};

use crate::propagate::{Extractor, Injector, Refused};

/// The variables of a process, by the names that fields have there: `traceparent` is `TRACEPARENT`. Values are not
/// looked at. A program that was started by another reads its context here, once, at its start.
///
/// ```
/// use spanring::propagate::{Environment, Propagators};
///
/// let parent = Propagators::default().extract(&Environment::of_process()).span_context;
/// ```
#[derive(Clone, Copy)]
pub struct Environment<R = fn(&str) -> Option<OsString>>(R);

impl Environment {
    /// The variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self(|name| env::var_os(name))
    }

    /// The name of a field among variables: in upper case, with an underscore for what is neither letter nor digit, and
    /// before a digit at the start.
    #[must_use]
    pub fn name(field: &str) -> String {
        let starts_badly = field.bytes().next().is_none_or(|first| first.is_ascii_digit());
        let letters = field.chars().map(|letter| match letter.to_ascii_uppercase() {
            letter if letter.is_ascii_alphanumeric() => letter,
            _ => '_',
        });
        starts_badly.then_some('_').into_iter().chain(letters).collect()
    }
}

impl<R: Fn(&str) -> Option<OsString>> Environment<R> {
    /// Variables that `read` gives by their names.
    #[must_use]
    pub fn read_by(read: R) -> Self {
        Self(read)
    }
}

impl<R: Fn(&str) -> Option<OsString>> Extractor for Environment<R> {
    fn values(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        if let Some(value) = (self.0)(&Environment::name(name)) {
            visit(value.as_encoded_bytes());
        }
    }
}

impl<R> fmt::Debug for Environment<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

/// The variables of a child process, by the names that [`Environment::name`] gives. What is not set here the child
/// inherits: where this process was given a context or baggage of its own, take it out with [`Command::env_remove`].
impl Injector for Command {
    fn set(&mut self, name: &'static str, value: &str) -> Result<(), Refused> {
        if value.contains('\0') {
            return Err(Refused::Unfit);
        }
        self.env(Environment::name(name), value);
        Ok(())
    }

    fn unset(&mut self, name: &'static str) {
        self.env_remove(Environment::name(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Baggage, Context, SpanContext, SpanId, TraceId, TraceState,
        propagate::{Dropped, Propagators},
    };

    /// ENVC-01: `^[A-Z_][A-Z0-9_]*$`, whatever the field is called.
    #[test]
    fn envc_01_names_are_upper_case_letters_digits_and_underscores() {
        let cases = [
            ("traceparent", "TRACEPARENT"),
            ("tracestate", "TRACESTATE"),
            ("baggage", "BAGGAGE"),
            ("x-b3-traceid", "X_B3_TRACEID"),
            ("3d.Field=é", "_3D_FIELD__"),
            ("", "_"),
            ("_a", "_A"),
        ];
        for (field, name) in cases {
            assert_eq!(Environment::name(field), name);
            assert_eq!(Environment::name(name), name, "once normalised it stays");
        }
    }

    /// ENVC-01: what a parent sets its child reads; values go through as they are.
    #[test]
    fn envc_01_child_reads_what_its_parent_set() {
        let state = TraceState::new("a=1").unwrap();
        let context = SpanContext::remote(TraceId([1; 16]), SpanId([2; 8]), 1, state);
        let baggage = Baggage::default().with("a", "é").unwrap();
        let mut command = Command::new("child");
        assert_eq!(
            Propagators::default().inject(&Context::of(context.clone()).with_baggage(baggage.clone()), &mut command),
            Dropped::default()
        );
        let variables = |command: &Command| -> Vec<(String, Option<OsString>)> {
            let owned = |(name, value): (&std::ffi::OsStr, Option<&std::ffi::OsStr>)| {
                (name.to_str().unwrap().to_owned(), value.map(ToOwned::to_owned))
            };
            command.get_envs().map(owned).collect()
        };
        let set = variables(&command);
        assert_eq!(set.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["BAGGAGE", "TRACEPARENT", "TRACESTATE"]);
        let read = Environment::read_by(|name| set.iter().find(|(set, _)| set == name)?.1.clone());
        let received = Propagators::default().extract(&read);
        assert_eq!((received.span_context, received.baggage), (Some(context), baggage));

        assert_eq!(command.set("a", "x\0"), Err(Refused::Unfit));
        let stateless = SpanContext::remote(TraceId([1; 16]), SpanId([2; 8]), 1, TraceState::default());
        Propagators::default().inject(&stateless.into(), &mut command);
        assert!(variables(&command).contains(&("TRACESTATE".into(), None)), "the child does not inherit it");
    }

    #[test]
    fn variables_of_this_process_are_read() {
        let mut found = None;
        Environment::of_process().values("path", &mut |value| found = Some(value.to_vec()));
        assert_eq!(found, env::var_os("PATH").map(OsString::into_encoded_bytes));
    }
}
