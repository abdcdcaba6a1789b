//! Metadata of gRPC.

use http::HeaderMap;

use crate::propagate::{Extractor, Injector, Refused};

/// ASCII metadata of gRPC: anything that is a map of headers inside, as `tonic::metadata::MetadataMap` is. A name that
/// ends in `-bin` is refused, because gRPC takes its values for base64.
#[derive(Clone, Copy, Debug)]
pub struct GrpcMetadata<M>(pub M);

impl<M: AsRef<HeaderMap>> Extractor for GrpcMetadata<M> {
    fn values(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        if !is_binary(name) {
            Extractor::values(self.0.as_ref(), name, visit);
        }
    }
}

impl<M: AsMut<HeaderMap>> Injector for GrpcMetadata<M> {
    fn set(&mut self, name: &'static str, value: &str) -> Result<(), Refused> {
        // gRPC over HTTP/2, "Custom-Metadata": lower-case letters, digits, `_`, `-`, `.`; printable ASCII and spaces.
        let is_key = name.bytes().all(|byte| byte.is_ascii_lowercase() || b"_-.0123456789".contains(&byte));
        let is_value = value.bytes().all(|byte| (0x20..=0x7E).contains(&byte));
        if !is_key || !is_value || is_binary(name) {
            return Err(Refused::Unfit);
        }
        self.0.as_mut().set(name, value)
    }

    fn unset(&mut self, name: &'static str) {
        self.0.as_mut().unset(name);
    }
}

fn is_binary(name: &str) -> bool {
    name.ends_with("-bin")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::propagate::carriers::tests::found;

    /// As `tonic` has it.
    #[derive(Default)]
    struct MetadataMap(HeaderMap);

    impl AsRef<HeaderMap> for MetadataMap {
        fn as_ref(&self) -> &HeaderMap {
            &self.0
        }
    }

    impl AsMut<HeaderMap> for MetadataMap {
        fn as_mut(&mut self) -> &mut HeaderMap {
            &mut self.0
        }
    }

    #[test]
    fn prp_05_metadata_of_grpc_is_ascii_and_never_binary() {
        let mut metadata = MetadataMap::default();
        let mut carrier = GrpcMetadata(&mut metadata);
        assert_eq!(carrier.set("a-name", "x y"), Ok(()));
        for (name, value) in [("a-bin", "x"), ("A-Name", "x"), ("a name", "x"), ("", "x"), ("b", "é"), ("b", "\t")] {
            assert_eq!(carrier.set(name, value), Err(Refused::Unfit), "{name}: {value:?}");
        }
        assert_eq!((found(&GrpcMetadata(&metadata)), metadata.0.len()), (vec!["x y".to_owned()], 1));
        metadata.0.append("b-bin", http::HeaderValue::from_static("AAAA"));
        GrpcMetadata(&metadata).values("b-bin", &mut |value| panic!("{value:?}"));
        GrpcMetadata(&mut metadata).unset("a-name");
        assert_eq!(metadata.0.len(), 1);
    }
}
