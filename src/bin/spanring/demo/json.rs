//! Writes JSON, as much of it as a report needs.

use std::fmt::{Display, Write};

/// An object that grows by one member at a time.
pub struct Object(String);

impl Object {
    pub fn new() -> Self {
        Self(String::from("{"))
    }

    pub fn string(self, name: &str, text: &str) -> Self {
        let text = quoted(text);
        self.member(name, text)
    }

    pub fn number(self, name: &str, number: u64) -> Self {
        self.member(name, number)
    }

    /// With a few decimals; `null` for nothing, and for what JSON has no word for.
    pub fn decimal(self, name: &str, number: Option<f64>) -> Self {
        match number.filter(|number| number.is_finite()) {
            Some(number) => self.member(name, format_args!("{number:.4}")),
            None => self.member(name, "null"),
        }
    }

    pub fn truth(self, name: &str, is_so: bool) -> Self {
        self.member(name, is_so)
    }

    pub fn object(self, name: &str, object: Option<Self>) -> Self {
        match object {
            Some(object) => self.member(name, object.end()),
            None => self.member(name, "null"),
        }
    }

    pub fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }

    fn member(mut self, name: &str, value: impl Display) -> Self {
        let comma = if self.0.len() > 1 { "," } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{comma}{}:{value}", quoted(name));
        self
    }
}

/// RFC 8259, section 7: quotes, backslashes and control characters are escaped, everything else stands for itself.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            control if control < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_string_is_read_back_as_it_was() {
        let all: String = (0..0x3000).filter_map(char::from_u32).collect();
        for text in ["", "\"", "\\", "a\"b\\c\nd\te\0", "😀", &all] {
            assert_eq!(serde_json::from_str::<String>(&quoted(text)).unwrap(), text);
        }
    }

    #[test]
    fn objects_nest_and_unknown_numbers_are_null() {
        let inner = Object::new().number("n", u64::MAX).truth("t", true);
        let outer = Object::new().string("a", "b").object("o", Some(inner)).object("none", None);
        let outer = outer.decimal("d", Some(0.5)).decimal("nan", Some(f64::NAN)).decimal("unknown", None).end();
        let read: serde_json::Value = serde_json::from_str(&outer).unwrap();
        assert_eq!(read["a"], "b");
        assert_eq!((&read["o"]["n"], &read["o"]["t"]), (&u64::MAX.into(), &true.into()));
        assert_eq!(read["d"], 0.5);
        assert!(["none", "nan", "unknown"].iter().all(|name| read[name].is_null()));
    }

    #[test]
    fn empty_object_is_one() {
        assert_eq!(Object::new().end(), "{}");
    }
}
