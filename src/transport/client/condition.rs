//! How the collector does, as far as the last attempt shows.

/// The collector's condition at the last attempt.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum Condition {
    /// Nothing was tried yet.
    #[default]
    Unknown,
    /// It took the last request.
    Fine,
    /// It asks for another try later, or did not answer in time or in full.
    Troubled(String),
    /// It answers, and refuses: each outcome says so.
    Refusing(String),
    /// It cannot be reached.
    Unreachable(String),
}
