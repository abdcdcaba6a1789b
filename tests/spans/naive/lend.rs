//! Lends owned values to the library, which borrows: each array, map or long text gets a cell to live in for the call.

use std::{cell::OnceCell, fmt, slice};

use spanring::Value;

use super::{Val, name};

/// What a borrowed value points into.
enum Held<'a> {
    Text(String),
    Shown(Pieces<'a>),
    Texts(Vec<&'a str>),
    Values(Vec<Value<'a>>),
    Entries(Vec<(&'a str, Value<'a>)>),
}

/// Formats its pieces one after the other.
struct Pieces<'a>(&'a [String]);

impl fmt::Display for Pieces<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| f.write_str(piece))
    }
}

type Cells<'a> = slice::Iter<'a, OnceCell<Held<'a>>>;

/// Gives `take` the pairs as the library wants them.
pub(super) fn lend<R>(pairs: &[(u8, Val)], take: impl FnOnce(&[(&str, Value<'_>)]) -> R) -> R {
    let count = pairs.iter().map(|(_, value)| cells(value)).sum();
    let held: Vec<OnceCell<Held<'_>>> = (0..count).map(|_| OnceCell::new()).collect();
    let mut cells = held.iter();
    let pairs: Vec<_> = pairs.iter().map(|(key, value)| (name(*key), borrow(value, &mut cells))).collect();
    take(&pairs)
}

/// Cells that a value needs.
fn cells(value: &Val) -> usize {
    match value {
        Val::Long(..) | Val::Strs(_) | Val::Shown(_) => 1,
        Val::Array(values) => 1 + values.iter().map(cells).sum::<usize>(),
        Val::Map(entries) => 1 + entries.iter().map(|(_, value)| cells(value)).sum::<usize>(),
        _ => 0,
    }
}

fn borrow<'a>(value: &'a Val, cells: &mut Cells<'a>) -> Value<'a> {
    match value {
        Val::Empty => Value::Empty,
        Val::Bool(value) => Value::Bool(*value),
        Val::Int(value) => Value::Int(*value),
        Val::Uint(value) => Value::Uint(*value),
        Val::Double(value) => Value::Double(*value),
        Val::Str(text) => Value::Str(text),
        Val::Bytes(bytes) => Value::Bytes(bytes),
        Val::Bools(values) => Value::Bools(values),
        Val::Ints(values) => Value::Ints(values),
        Val::Doubles(values) => Value::Doubles(values),
        Val::Long(character, times) => hold(Held::Text(character.to_string().repeat(usize::from(*times))), cells),
        Val::Shown(pieces) => hold(Held::Shown(Pieces(pieces)), cells),
        Val::Strs(texts) => hold(Held::Texts(texts.iter().map(String::as_str).collect()), cells),
        Val::Array(values) => {
            let values = values.iter().map(|value| borrow(value, cells)).collect();
            hold(Held::Values(values), cells)
        }
        Val::Map(entries) => {
            let entries = entries.iter().map(|(key, value)| (name(*key), borrow(value, cells))).collect();
            hold(Held::Entries(entries), cells)
        }
    }
}

fn hold<'a>(held: Held<'a>, cells: &mut Cells<'a>) -> Value<'a> {
    match cells.next().expect("cells were counted before").get_or_init(|| held) {
        Held::Text(text) => Value::Str(text),
        Held::Shown(pieces) => Value::display(pieces),
        Held::Texts(texts) => Value::Strs(texts),
        Held::Values(values) => Value::Array(values),
        Held::Entries(entries) => Value::Map(entries),
    }
}
