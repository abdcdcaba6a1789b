//! The driver that the user wants, and the one that runs, and why.

use std::{fmt, str::FromStr};

/// Which driver to use.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum DriverChoice {
    /// io_uring where the kernel and its policy allow, else poll.
    #[default]
    Auto,
    /// As `Auto`, but on the user's wish: where it is not available, poll runs and the report says so.
    Uring,
    /// Readiness and plain system calls, everywhere.
    Poll,
}

impl FromStr for DriverChoice {
    type Err = UnknownDriver;

    fn from_str(name: &str) -> Result<Self, UnknownDriver> {
        let choices = [("auto", Self::Auto), ("uring", Self::Uring), ("poll", Self::Poll)];
        let found = choices.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name.trim()));
        found.map(|(_, choice)| choice).ok_or(UnknownDriver)
    }
}

/// Not the name of a driver. Write `auto`, `uring` or `poll`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UnknownDriver;

impl fmt::Display for UnknownDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such driver: write auto, uring or poll")
    }
}

impl std::error::Error for UnknownDriver {}

/// Which driver runs, and why this one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DriverReport {
    /// `uring`, `poll` or `sim`.
    pub name: &'static str,
    /// One clause for people.
    pub reason: String,
}

impl fmt::Display for DriverReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_drivers_are_read_in_any_case() {
        assert_eq!("Auto".parse(), Ok(DriverChoice::Auto));
        assert_eq!(" URING ".parse(), Ok(DriverChoice::Uring));
        assert_eq!("poll".parse(), Ok(DriverChoice::Poll));
        for name in ["", "epoll", "io_uring", "auto poll"] {
            assert_eq!(name.parse::<DriverChoice>(), Err(UnknownDriver), "{name}");
        }
    }
}
