//! Finds the spans of a request by the lengths of the wire alone, so that a collector can count them without decoding.

/// The bytes are not the fields that they claim to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Malformed;

/// Trace id and span id of a span.
pub type Ids = [u8; 24];

/// Calls `each` with the bytes of every span of an `ExportTraceServiceRequest`. What is inside a span is not looked at.
pub fn for_each_span(request: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), Malformed> {
    // collector/trace/v1/trace_service.proto: ExportTraceServiceRequest.resource_spans = 1
    for resource_spans in messages(request, 1) {
        // trace/v1/trace.proto: ResourceSpans.scope_spans = 2
        for scope_spans in messages(resource_spans?, 2) {
            // trace/v1/trace.proto: ScopeSpans.spans = 2
            for span in messages(scope_spans?, 2) {
                each(span?);
            }
        }
    }
    Ok(())
}

/// The ids of a span; an id that is missing or of another length is zero.
pub fn ids(span: &[u8]) -> Result<Ids, Malformed> {
    let mut ids = [0; 24];
    let (trace_id, span_id) = ids.split_at_mut(16);
    // trace/v1/trace.proto: Span.trace_id = 1, Span.span_id = 2
    for (number, id) in [(1, trace_id), (2, span_id)] {
        for bytes in messages(span, number) {
            let bytes = bytes?;
            if bytes.len() == id.len() {
                id.copy_from_slice(bytes);
            }
        }
    }
    Ok(ids)
}

/// The length-delimited fields of a message that have this number.
fn messages(message: &[u8], number: u64) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    let mut rest = message;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let field = next_field(&mut rest);
            match field {
                Ok((of, Some(content))) if of == number => return Some(Ok(content)),
                Ok((of, None)) if of == number => rest = &[],
                Ok(_) => continue,
                Err(Malformed) => rest = &[],
            }
            return Some(Err(Malformed));
        }
        None
    })
}

/// Takes the next field off: its number, and its content if it is length-delimited.
fn next_field<'a>(rest: &mut &'a [u8]) -> Result<(u64, Option<&'a [u8]>), Malformed> {
    let tag = varint(rest)?;
    let number = tag >> 3;
    if number == 0 {
        return Err(Malformed);
    }
    // The wire types of protobuf. Groups (3 and 4) have been out of use since before OTLP.
    let len = match tag & 7 {
        0 => {
            varint(rest)?;
            return Ok((number, None));
        }
        1 => 8,
        2 => usize::try_from(varint(rest)?).map_err(|_| Malformed)?,
        5 => 4,
        _ => return Err(Malformed),
    };
    let (content, after) = rest.split_at_checked(len).ok_or(Malformed)?;
    *rest = after;
    Ok((number, (tag & 7 == 2).then_some(content)))
}

fn varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0u64;
    for (index, &byte) in rest.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            *rest = &rest[index + 1..];
            return Ok(value);
        }
    }
    Err(Malformed)
}
