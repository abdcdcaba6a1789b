//! Attributes that belong to no span: those of a resource and of a scope, encoded once.

use std::collections::BTreeMap;

use super::{
    limits::SpanLimits,
    value::{Key, Value, key_value},
    wire::{Full, Out},
};

/// One attribute takes no more bytes than a whole span may: a block's largest size. What is longer is left out.
const ATTRIBUTE_BYTES_MAX: usize = 64 << 10;

/// Appends `attributes` as fields of this tag; how many were left out, for an empty key or for their size.
///
/// Of equal keys the last wins, at the place of the last (PB-05). The limits of spans do not apply: the specification
/// exempts resources, and these are written once a process. Only the depth of values has a bound, because they nest
/// through the stack.
pub fn write_attributes(tag: u8, attributes: &[(Key<'_>, Value<'_>)], out: &mut Vec<u8>) -> usize {
    let limits = SpanLimits::default();
    let indexed = attributes.iter().enumerate();
    let last: BTreeMap<&str, usize> = indexed.map(|(index, (key, _))| (key.name(), index)).collect();
    let mut scratch = vec![0; 256];
    let mut left_out = 0;
    for (index, (key, value)) in attributes.iter().enumerate() {
        if key.name().is_empty() {
            left_out += 1;
        } else if last.get(key.name()) == Some(&index) {
            match encoded(tag, key.name(), value, &limits, &mut scratch) {
                Some(field) => out.extend_from_slice(field),
                None => left_out += 1,
            }
        }
    }
    left_out
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

    fn resource(attributes: &[(Key<'_>, Value<'_>)]) -> (Resource, usize) {
        let mut bytes = Vec::new();
        let left_out = write_attributes(0x0A, attributes, &mut bytes);
        (Resource::decode(bytes.as_slice()).unwrap(), left_out)
    }

    #[test]
    fn pb_05_last_of_equal_keys_wins() {
        let pairs = [("a", 1), ("b", 2), ("a", 3), ("", 4)].map(|(key, value)| (Key::new(key), Value::Int(value)));
        let (resource, left_out) = resource(&pairs);
        let read: Vec<_> = resource
            .attributes
            .into_iter()
            .map(|pair| match pair.value.unwrap().value.unwrap() {
                any_value::Value::IntValue(number) => (pair.key, number),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(read, [("b".to_owned(), 2), ("a".to_owned(), 3)]);
        assert_eq!(left_out, 1, "the empty key");
    }

    #[test]
    fn attribute_up_to_the_bound_is_written_and_a_longer_one_is_counted() {
        let fits = "x".repeat(ATTRIBUTE_BYTES_MAX - 18);
        let excess = "x".repeat(ATTRIBUTE_BYTES_MAX);
        let pairs = [("fits", fits.as_str()), ("excess", &excess), ("small", "y")];
        let (resource, left_out) = resource(&pairs.map(|(key, value)| (Key::new(key), Value::Str(value))));
        let keys: Vec<_> = resource.attributes.iter().map(|pair| pair.key.as_str()).collect();
        assert_eq!((keys, left_out), (vec!["fits", "small"], 1));
    }
}
