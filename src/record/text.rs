//! Text as a span keeps it: cut at a limit of characters, and formatted by the program straight into the block.

use std::fmt::{self, Write as _};

use super::wire::{Full, Out};

/// What formats itself into the block of a span: see [`Value::display`](super::Value::display).
#[derive(Clone, Copy)]
pub struct Text<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    Display(&'a dyn fmt::Display),
    Debug(&'a dyn fmt::Debug),
    /// A number: no limit of lengths applies to it.
    Digits(&'a dyn fmt::Display),
}

impl<'a> Text<'a> {
    pub(super) fn display(value: &'a dyn fmt::Display) -> Self {
        Self(Source::Display(value))
    }

    pub(super) fn debug(value: &'a dyn fmt::Debug) -> Self {
        Self(Source::Debug(value))
    }

    pub(super) fn digits(number: &'a dyn fmt::Display) -> Self {
        Self(Source::Digits(number))
    }

    /// Writes the text, up to so many characters. This is code of the program: it may start spans, and it may panic,
    /// which leaves what `out` had before as it was.
    pub(super) fn write(self, out: &mut Out<'_>, chars_max: usize) -> Result<(), Full> {
        let chars_max = if matches!(self.0, Source::Digits(_)) { usize::MAX } else { chars_max };
        let mut sink = Sink { out, chars_left: chars_max, full: None };
        // An error ends the text. Of one that comes from here the sink knows the reason; before one of the program's
        // own there may be text, which is kept.
        let _ = match self.0 {
            Source::Display(value) | Source::Digits(value) => write!(sink, "{value}"),
            Source::Debug(value) => write!(sink, "{value:?}"),
        };
        sink.full.map_or(Ok(()), Err)
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Source::Display(value) | Source::Digits(value) => write!(f, "{value}"),
            Source::Debug(value) => value.fmt(f),
        }
    }
}

/// Takes text until the limit or the end of the block, and refuses what comes after: an endless text ends there.
struct Sink<'s, 'o> {
    out: &'s mut Out<'o>,
    chars_left: usize,
    full: Option<Full>,
}

impl fmt::Write for Sink<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.full.is_some() {
            return Err(fmt::Error); // the program went on after a refusal; a short piece might still find room
        }
        let kept = first_chars(text, self.chars_left);
        if let Err(full) = self.out.put(kept.as_bytes()) {
            self.full = Some(full);
            return Err(fmt::Error);
        }
        if kept.len() < text.len() {
            self.chars_left = 0;
            return Err(fmt::Error);
        }
        if self.chars_left < usize::MAX {
            self.chars_left -= kept.chars().count();
        }
        Ok(())
    }
}

/// The first `count` characters: a limit counts characters, and a cut never splits one.
pub(super) fn first_chars(text: &str, count: usize) -> &str {
    if text.len() <= count {
        return text;
    }
    text.char_indices().nth(count).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_count_characters_and_split_none() {
        assert_eq!(first_chars("äöü", 2), "äö");
        assert_eq!(first_chars("äöü", 3), "äöü");
        assert_eq!(first_chars("abc", 0), "");
        assert_eq!(first_chars("🦀🦀", 1), "🦀");
    }

    /// Writes each piece and goes on whatever the formatter says, as careless code does.
    struct Stubborn(&'static [&'static str]);

    impl fmt::Display for Stubborn {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            for piece in self.0 {
                let _ = f.write_str(piece);
            }
            Ok(())
        }
    }

    fn written(pieces: &'static [&'static str], room: usize, chars_max: usize) -> Result<String, Full> {
        let mut bytes = vec![0; room];
        let mut out = Out::after(&mut bytes, 0);
        Text::display(&Stubborn(pieces)).write(&mut out, chars_max)?;
        let len = out.len();
        Ok(String::from_utf8(bytes[..len].to_vec()).expect("pieces are cut between characters"))
    }

    #[test]
    fn limit_counts_the_characters_of_all_pieces() {
        for (chars_max, kept) in
            [(0, ""), (1, "ä"), (2, "äb"), (3, "äbü"), (4, "äbüß"), (5, "äbüß"), (usize::MAX, "äbüß")]
        {
            assert_eq!(written(&["ä", "", "bü", "ß"], 100, chars_max).as_deref(), Ok(kept), "{chars_max}");
        }
    }

    #[test]
    fn nothing_is_taken_after_a_piece_that_found_no_room() {
        assert_eq!(written(&["abc", "defgh", "i"], 6, usize::MAX), Err(Full { need: 8 }));
        assert_eq!(written(&["abc", "defgh", "i"], 6, 5).as_deref(), Ok("abcde"));
    }

    #[test]
    fn number_is_never_cut() {
        let mut bytes = [0; 64];
        let mut out = Out::after(&mut bytes, 0);
        Text::digits(&u128::MAX).write(&mut out, 3).expect("it has room");
        let len = out.len();
        assert_eq!(&bytes[..len], u128::MAX.to_string().as_bytes());
    }
}
