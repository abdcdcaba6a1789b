//! Carriers that most programs have.

mod environment;
mod grpc;
mod typed_map;

use std::{
    collections::{BTreeMap, HashMap},
    hash::BuildHasher,
};

use http::{HeaderMap, HeaderName, HeaderValue};

pub use self::{environment::Environment, grpc::GrpcMetadata, typed_map::TypedMap};
use super::{Extractor, Injector, Refused};

impl Extractor for HeaderMap {
    fn values(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.get_all(name).iter().for_each(|value| visit(value.as_bytes()));
    }
}

impl Injector for HeaderMap {
    fn set(&mut self, name: &'static str, value: &str) -> Result<(), Refused> {
        let value = HeaderValue::from_str(value).map_err(|_| Refused::Unfit)?;
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || b"-_.0123456789".contains(&byte));
        let name = is_name.then(|| HeaderName::from_static(name)).ok_or(Refused::Unfit)?;
        self.try_insert(name, value).map(|_| ()).map_err(|_| Refused::NoRoom)
    }

    fn unset(&mut self, name: &'static str) {
        self.remove(name);
    }
}

/// Visits the values of pairs whose names are this one, in any case.
fn visit_pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a [u8])>, name: &str, visit: &mut dyn FnMut(&[u8])) {
    pairs.filter(|(found, _)| found.eq_ignore_ascii_case(name)).for_each(|(_, value)| visit(value));
}

impl<S: BuildHasher> Extractor for HashMap<String, String, S> {
    fn values(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        match self.get(name) {
            Some(value) => visit(value.as_bytes()),
            None => visit_pairs(self.iter().map(|(found, value)| (&**found, value.as_bytes())), name, visit),
        }
    }
}

impl<S: BuildHasher> Injector for HashMap<String, String, S> {
    fn set(&mut self, name: &'static str, value: &str) -> Result<(), Refused> {
        self.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    fn unset(&mut self, name: &'static str) {
        self.remove(name);
    }
}

impl Extractor for BTreeMap<String, String> {
    fn values(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        match self.get(name) {
            Some(value) => visit(value.as_bytes()),
            None => visit_pairs(self.iter().map(|(found, value)| (&**found, value.as_bytes())), name, visit),
        }
    }
}

impl Injector for BTreeMap<String, String> {
    fn set(&mut self, name: &'static str, value: &str) -> Result<(), Refused> {
        self.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    fn unset(&mut self, name: &'static str) {
        self.remove(name);
    }
}

/// Names may repeat, as they do in the headers of a message queue.
impl<Name: AsRef<str>, Value: AsRef<[u8]>> Extractor for [(Name, Value)] {
    fn values(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        visit_pairs(self.iter().map(|(found, value)| (found.as_ref(), value.as_ref())), name, visit);
    }
}

impl<Name: AsRef<str>, Value: AsRef<[u8]>> Extractor for Vec<(Name, Value)> {
    fn values(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.as_slice().values(name, visit);
    }
}

/// The pairs of this name are replaced by one.
impl<Name: AsRef<str> + From<&'static str>, Value: for<'a> From<&'a str>> Injector for Vec<(Name, Value)> {
    fn set(&mut self, name: &'static str, value: &str) -> Result<(), Refused> {
        self.retain(|(found, _)| !found.as_ref().eq_ignore_ascii_case(name));
        self.push((name.into(), value.into()));
        Ok(())
    }

    fn unset(&mut self, name: &'static str) {
        self.retain(|(found, _)| !found.as_ref().eq_ignore_ascii_case(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::propagate::Propagators;

    pub(super) fn found(carrier: &(impl Extractor + ?Sized)) -> Vec<String> {
        let mut all = vec![];
        carrier.values("a-name", &mut |value| all.push(String::from_utf8_lossy(value).into_owned()));
        all
    }

    /// PRP-01, PRP-03: names in any case, all values in order; a value is set alone.
    #[test]
    fn prp_03_carriers_give_all_values_in_order_and_are_set_to_one() {
        let mut headers = HeaderMap::new();
        for value in ["1", "2"] {
            headers.append("A-Name", HeaderValue::from_static(value));
        }
        let mut pairs =
            vec![("A-NAME".to_owned(), "1".to_owned()), ("b".into(), "x".into()), ("a-name".into(), "2".into())];
        let mut bytes: Vec<(String, Vec<u8>)> = pairs.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
        let texts: [(&str, &str); 3] = [("a-Name", "1"), ("b", "x"), ("a-name", "2")];
        let expected = ["1", "2"];
        assert_eq!(found(&headers), expected);
        assert_eq!(found(&pairs), expected);
        assert_eq!(found(&bytes), expected);
        assert_eq!(found(&texts[..]), expected);
        let mut hashed: HashMap<String, String> = [("A-Name".to_owned(), "1".to_owned())].into();
        let mut sorted: BTreeMap<String, String> = hashed.clone().into_iter().collect();
        assert_eq!((found(&hashed), found(&sorted)), (vec!["1".to_owned()], vec!["1".to_owned()]));

        let carriers: [&mut dyn Injector; 5] = [&mut headers, &mut pairs, &mut bytes, &mut hashed, &mut sorted];
        carriers.into_iter().for_each(|carrier| assert_eq!(carrier.set("a-name", "3"), Ok(())));
        assert_eq!(found(&headers), ["3"]);
        assert_eq!((found(&pairs), pairs.len()), (vec!["3".to_owned()], 2));
        assert_eq!(found(&bytes), ["3"]);
        assert_eq!(found(&hashed), ["3"], "the exact name goes before one in another case");
        assert_eq!(found(&sorted), ["3"]);

        let carriers: [&mut dyn Injector; 5] = [&mut headers, &mut pairs, &mut bytes, &mut hashed, &mut sorted];
        carriers.into_iter().for_each(|carrier| carrier.unset("a-name"));
        assert_eq!((headers.len(), pairs.len(), bytes.len()), (0, 1, 1));
        assert_eq!((found(&hashed), found(&sorted)), (vec!["1".to_owned()], vec!["1".to_owned()]), "in another case");
    }

    /// PRP-03: headers of a message of Kafka: bytes, and names that repeat.
    #[test]
    fn prp_03_headers_of_a_message_are_bytes_and_repeat() {
        let headers: Vec<(String, Vec<u8>)> = vec![
            ("key".into(), vec![0xFF, 0]),
            ("traceparent".into(), b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_vec()),
            ("baggage".into(), b"a=1".to_vec()),
            ("tracestate".into(), b"b=2".to_vec()),
            ("baggage".into(), b"c=3".to_vec()),
            ("tracestate".into(), b"d=4".to_vec()),
        ];
        let received = Propagators::default().extract(&headers);
        let context = received.into_context();
        assert_eq!(context.span_context().trace_state().as_str(), "b=2,d=4");
        assert_eq!(context.baggage().len(), 2);
        let mut outgoing = headers.clone();
        Propagators::default().inject(&context, &mut outgoing);
        let baggage: Vec<_> =
            outgoing.iter().filter(|(name, _)| name == "baggage").map(|(_, value)| &value[..]).collect();
        assert_eq!((outgoing.len(), baggage), (4, vec![&b"a=1,c=3"[..]]));
    }

    /// API-22: what a map of headers cannot take is refused, where it would panic.
    #[test]
    fn api_22_header_map_refuses_what_it_cannot_take() {
        let mut headers = HeaderMap::new();
        for name in ["", "A", "a b", "é", "a\n"] {
            assert_eq!(headers.set(name, "x"), Err(Refused::Unfit), "{name:?}");
        }
        assert_eq!(headers.set("a", "x\n"), Err(Refused::Unfit));
        let full = (0..).find(|number| {
            let name = HeaderName::from_bytes(format!("x-{number}").as_bytes()).unwrap();
            headers.try_insert(name, HeaderValue::from_static("")).is_err()
        });
        assert!(full.is_some());
        assert_eq!(headers.set("a-name", "x"), Err(Refused::NoRoom));
    }
}
