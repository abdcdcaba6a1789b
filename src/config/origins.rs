//! Where the settings of a configuration come from.

use std::fmt;

/// Which settings of a [`Config`](crate::Config) were read from which variables, and what was wrong with others. Only
/// [`Config::from_env`](crate::Config::from_env) fills it in; leave it as it is.
#[derive(Clone, Default)]
pub struct Origins {
    pub(super) is_of_environment: bool,
    pub(super) notes: Vec<Note>,
    pub(super) warnings: Vec<String>,
    /// The attributes that the environment gives the resource, in the order in which they came.
    pub(super) resource: Vec<(String, String)>,
}

/// A setting that was read.
#[derive(Clone)]
pub(super) struct Note {
    pub(super) setting: String,
    pub(super) variable: &'static str,
    /// The value as it was then, so that a later change by the program shows.
    pub(super) value: String,
}

/// What happens instead where a variable is ignored.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Instead {
    /// This setting stays what it is without the variable.
    Stays(&'static str),
    /// This, whatever else is set.
    Is(&'static str),
}

impl Origins {
    pub(crate) fn of_environment() -> Self {
        Self { is_of_environment: true, ..Self::default() }
    }

    /// Notes which variable a setting comes from, replacing an earlier one.
    pub(crate) fn note(&mut self, setting: &str, variable: &'static str) {
        let setting = name_of(setting);
        self.notes.retain(|note| note.setting != setting);
        self.notes.push(Note { setting, variable, value: String::new() });
    }

    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

impl fmt::Debug for Origins {
    /// Without the values, some of which are secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let notes = self.notes.iter().map(|note| (&note.setting, note.variable));
        f.debug_struct("Origins").field("notes", &notes.collect::<Vec<_>>()).field("warnings", &self.warnings).finish()
    }
}

/// A setting's name on one line: the keys of a resource are anybody's text.
pub(super) fn name_of(setting: &str) -> String {
    setting.escape_debug().to_string()
}
