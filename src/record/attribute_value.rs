//! What a program may pass as the value of an attribute, and how each kind becomes a [`Value`].

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use super::{
    ids::{SpanId, TraceId},
    limits::SpanLimits,
    value::{Element, Elements, List, Value},
    wire::{Full, Out},
};

/// What can be the value of an attribute. References to such values are values, too.
///
/// | type | recorded as |
/// |---|---|
/// | `str`, `String`, `Cow<str>`, `Box<str>`, `Arc<str>`, `Rc<str>`, `char` | text |
/// | `bool` | bool |
/// | every integer | integer; outside of `i64` as decimal text, which no limit cuts |
/// | `f32`, `f64` | double |
/// | `Duration` | double, in seconds, as the semantic conventions have it |
/// | `IpAddr`, `SocketAddr` and the like, [`TraceId`], [`SpanId`] | text |
/// | slices, arrays and `Vec`s of `u8` | bytes |
/// | slices, arrays and `Vec`s of anything else here | array; one that is absent is an empty element |
/// | `Option` | its value; nothing at all where it is absent, and that is no misuse |
/// | [`Value`] | any of these, and maps |
/// | [`Value::display`], [`Value::debug`] | text, formatted straight into the span |
/// | [`Value::lazy`] | what a closure returns, which is only called where something records |
///
/// ```
/// # use std::{net::Ipv4Addr, time::Duration};
/// # use spanring::{Config, Engine, Value};
/// # let engine = Engine::start(Config::default())?;
/// # let mut span = engine.tracer("doc").span("work").start();
/// let (user, coupon): (String, Option<&str>) = ("ada".to_owned(), None);
/// span.set("user.name", &user);
/// span.set("coupon", coupon);
/// span.set("wait", Duration::from_millis(1500)); // 1.5
/// span.set("client.address", Ipv4Addr::LOCALHOST);
/// span.set("sizes", vec![1_u64, 2]);
/// span.set("range", Value::debug(&(1..5)));
/// span.set("cart", Value::lazy(|| user.to_uppercase()));
/// # Ok::<(), spanring::StartError>(())
/// ```
///
/// Any other type says what to do when it is passed:
///
/// ```compile_fail,E0277
/// # use spanring::{Config, Engine};
/// # let engine = Engine::start(Config::default())?;
/// # let mut span = engine.tracer("doc").span("work").start();
/// span.set("thread", std::thread::current().id()); // error: `ThreadId` cannot be the value of an attribute
/// # Ok::<(), spanring::StartError>(())
/// ```
///
/// A type of the program's own becomes a value by the value that it passes on:
///
/// ```
/// # use spanring::{AttributeValue, Value};
/// struct Order {
///     number: u32,
/// }
///
/// impl AttributeValue for Order {
///     fn with<R>(&self, write: impl FnOnce(Value<'_>) -> R) -> Option<R> {
///         self.number.with(write)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the value of an attribute",
    label = "neither text nor a number, a bool, a duration, an address, an id, nor an array or `Option` of them",
    note = "to record it as text, pass `Value::display(&value)` or `Value::debug(&value)`",
    note = "a map is `Value::Map`, and a type of your own may implement `AttributeValue`"
)]
pub trait AttributeValue {
    /// Whether the value is at hand: a span that does not record need not be asked first, because nothing is computed.
    const IS_AT_HAND: bool = false;

    /// Passes the value to `write`, once; not at all where there is none, which is `None`.
    fn with<R>(&self, write: impl FnOnce(Value<'_>) -> R) -> Option<R>;

    /// Passes several values as one, which is a matter of their type: bytes are one value, not an array.
    #[doc(hidden)]
    #[inline]
    fn with_slice<R>(values: &[Self], write: impl FnOnce(Value<'_>) -> R) -> Option<R>
    where
        Self: Sized,
    {
        Some(write(Value::List(List::new(&values))))
    }
}

impl<T: AttributeValue> Elements for &[T] {
    fn write(&self, out: &mut Out<'_>, limits: &SpanLimits, depth: u32) -> Result<(), Full> {
        self.iter().try_for_each(|value| {
            let written = value.with(|value| Element(value).write(out, limits, depth));
            written.unwrap_or_else(|| Element(Value::Empty).write(out, limits, depth))
        })
    }
}

impl<T: AttributeValue + ?Sized> AttributeValue for &T {
    const IS_AT_HAND: bool = T::IS_AT_HAND;

    #[inline(always)]
    fn with<R>(&self, write: impl FnOnce(Value<'_>) -> R) -> Option<R> {
        T::with(self, write)
    }
}

impl AttributeValue for Value<'_> {
    const IS_AT_HAND: bool = true;

    #[inline(always)]
    fn with<R>(&self, write: impl FnOnce(Value<'_>) -> R) -> Option<R> {
        Some(write(*self))
    }

    #[inline]
    fn with_slice<R>(values: &[Self], write: impl FnOnce(Value<'_>) -> R) -> Option<R> {
        Some(write(Value::Array(values)))
    }
}

macro_rules! copied {
    ($($type:ty),+ $(,)?) => {
        $(impl AttributeValue for $type {
            const IS_AT_HAND: bool = true;

            #[inline(always)]
            fn with<R>(&self, write: impl FnOnce(Value<'_>) -> R) -> Option<R> {
                Some(write(Value::from(*self)))
            }
        })+
    };
}

copied!(i8, i16, i32, isize, u16, u32, f32);

macro_rules! copied_with_slices {
    ($($type:ty => $slice:ident),+ $(,)?) => {
        $(impl AttributeValue for $type {
            const IS_AT_HAND: bool = true;

            #[inline(always)]
            fn with<R>(&self, write: impl FnOnce(Value<'_>) -> R) -> Option<R> {
                Some(write(Value::from(*self)))
            }

            #[inline]
            fn with_slice<R>(values: &[Self], write: impl FnOnce(Value<'_>) -> R) -> Option<R> {
                Some(write(Value::$slice(values)))
            }
        })+
    };
}

copied_with_slices!(bool => Bools, u8 => Bytes, i64 => Ints, f64 => Doubles);

/// Integers that may be outside of `i64`. Those that are not go the way of all others, which is a fast one.
macro_rules! wide {
    ($($type:ty),+ $(,)?) => {
        $(impl AttributeValue for $type {
            const IS_AT_HAND: bool = true;

            #[inline(always)]
            fn with<R>(&self, write: impl FnOnce(Value<'_>) -> R) -> Option<R> {
                Some(write(i64::try_from(*self).map_or_else(|_| Value::digits(self), Value::Int)))
            }
        })+
    };
}

wide!(u64, usize, i128, u128);

macro_rules! texts {
    ($($type:ty),+ $(,)?) => {
        $(impl AttributeValue for $type {
            const IS_AT_HAND: bool = true;

            #[inline(always)]
            fn with<R>(&self, write: impl FnOnce(Value<'_>) -> R) -> Option<R> {
                Some(write(Value::Str(self)))
            }
        })+
    };
}

texts!(str, String, Cow<'_, str>, Box<str>, Arc<str>, Rc<str>);

impl AttributeValue for char {
    const IS_AT_HAND: bool = true;

    #[inline]
    fn with<R>(&self, write: impl FnOnce(Value<'_>) -> R) -> Option<R> {
        Some(write(Value::Str(self.encode_utf8(&mut [0; 4]))))
    }
}

impl AttributeValue for Duration {
    const IS_AT_HAND: bool = true;

    #[inline]
    fn with<R>(&self, write: impl FnOnce(Value<'_>) -> R) -> Option<R> {
        Some(write(Value::Double(self.as_secs_f64())))
    }
}

macro_rules! displayed {
    ($($type:ty),+ $(,)?) => {
        $(impl AttributeValue for $type {
            const IS_AT_HAND: bool = true;

            #[inline]
            fn with<R>(&self, write: impl FnOnce(Value<'_>) -> R) -> Option<R> {
                Some(write(Value::display(self)))
            }
        })+
    };
}

displayed!(IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TraceId, SpanId);

impl<T: AttributeValue> AttributeValue for Option<T> {
    const IS_AT_HAND: bool = T::IS_AT_HAND;

    #[inline(always)]
    fn with<R>(&self, write: impl FnOnce(Value<'_>) -> R) -> Option<R> {
        self.as_ref().and_then(|value| value.with(write))
    }
}

macro_rules! slices {
    ($([$($const:tt)*] $type:ty),+ $(,)?) => {
        $(impl<T: AttributeValue, $($const)*> AttributeValue for $type {
            const IS_AT_HAND: bool = T::IS_AT_HAND;

            #[inline]
            fn with<R>(&self, write: impl FnOnce(Value<'_>) -> R) -> Option<R> {
                T::with_slice(self, write)
            }
        })+
    };
}

slices!([] [T], [const N: usize] [T; N], [] Vec<T>);

/// A value that is computed where it is recorded: see [`Value::lazy`].
#[derive(Clone, Copy, Debug)]
pub struct Lazy<F>(F);

impl Value<'_> {
    /// A value that is not computed for a span that does not record. The closure is called once for each try: again
    /// where the span turns out to need a larger block, and in an event or a link.
    ///
    /// ```
    /// # use spanring::{Config, Engine, Value};
    /// # let engine = Engine::start(Config::default())?;
    /// # let mut span = engine.tracer("doc").span("work").start();
    /// # let rows = [1, 2, 3];
    /// span.set("rows.total", Value::lazy(|| rows.iter().sum::<i64>()));
    /// # Ok::<(), spanring::StartError>(())
    /// ```
    pub fn lazy<V: AttributeValue, F: Fn() -> V>(compute: F) -> Lazy<F> {
        Lazy(compute)
    }
}

impl<V: AttributeValue, F: Fn() -> V> AttributeValue for Lazy<F> {
    #[inline]
    fn with<R>(&self, write: impl FnOnce(Value<'_>) -> R) -> Option<R> {
        (self.0)().with(write)
    }
}
