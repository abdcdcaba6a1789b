//! Attributes that belong to no span: those of a resource and of a scope, encoded once.

use std::collections::BTreeMap;

use super::{
    limits::SpanLimits,
    value::{Key, Value, key_value},
    wire::{Full, Out},
};

/// One attribute takes no more bytes than a whole span may: a block's largest size. What is longer is left out.
const ATTRIBUTE_BYTES_MAX: usize = 64 << 10;

/// Appends `attributes` as fields of this tag. One with an empty key is left out, and so is one that is too large.
///
/// Of equal keys the last wins, at the place of the last (PB-05). The limits of spans do not apply: the specification
/// exempts resources, and these are written once a process. Only the depth of values has a bound, because they nest
/// through the stack.
pub(crate) fn write_attributes(tag: u8, attributes: &[(Key<'_>, Value<'_>)], out: &mut Vec<u8>) {
    let limits = SpanLimits::default();
    let indexed = attributes.iter().enumerate();
    let last: BTreeMap<&str, usize> = indexed.map(|(index, (key, _))| (key.name(), index)).collect();
    let mut scratch = vec![0; 256];
    for (index, (key, value)) in attributes.iter().enumerate() {
        let is_last = last.get(key.name()) == Some(&index);
        if is_last
            && !key.name().is_empty()
            && let Some(field) = encoded(tag, key.name(), value, &limits, &mut scratch)
        {
            out.extend_from_slice(field);
        }
    }
}

/// The whole field, in `scratch`, which grows as far as one attribute may.
fn encoded<'s>(
    tag: u8,
    key: &str,
    value: &Value<'_>,
    limits: &SpanLimits,
    scratch: &'s mut Vec<u8>,
) -> Option<&'s [u8]> {
    loop {
        let mut field = Out::after(scratch, 0);
        match field.nested(tag, |field| key_value(field, key, value, limits, 1)) {
            Ok(()) => {
                let len = field.len();
                return Some(&scratch[..len]);
            }
            Err(Full { need }) if need <= ATTRIBUTE_BYTES_MAX && scratch.len() < ATTRIBUTE_BYTES_MAX => {
                scratch.resize(need.next_power_of_two(), 0);
            }
            Err(Full { .. }) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{common::v1::any_value, resource::v1::Resource};
    use prost::Message;

    use super::*;

    fn resource(attributes: &[(Key<'_>, Value<'_>)]) -> Resource {
        let mut bytes = Vec::new();
        write_attributes(0x0A, attributes, &mut bytes);
        Resource::decode(bytes.as_slice()).unwrap()
    }

    #[test]
    fn pb_05_last_of_equal_keys_wins() {
        let pairs = [("a", 1), ("b", 2), ("a", 3), ("", 4)].map(|(key, value)| (Key::new(key), Value::Int(value)));
        let resource = resource(&pairs);
        let read: Vec<_> = resource
            .attributes
            .into_iter()
            .map(|pair| match pair.value.unwrap().value.unwrap() {
                any_value::Value::IntValue(number) => (pair.key, number),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(read, [("b".to_owned(), 2), ("a".to_owned(), 3)]);
    }

    #[test]
    fn attribute_up_to_the_bound_is_written_and_a_longer_one_is_left_out() {
        let fits = "x".repeat(ATTRIBUTE_BYTES_MAX - 18);
        let excess = "x".repeat(ATTRIBUTE_BYTES_MAX);
        let pairs = [("fits", fits.as_str()), ("excess", &excess), ("small", "y")];
        let resource = resource(&pairs.map(|(key, value)| (Key::new(key), Value::Str(value))));
        let keys: Vec<_> = resource.attributes.iter().map(|pair| pair.key.as_str()).collect();
        assert_eq!(keys, ["fits", "small"]);
    }
}
