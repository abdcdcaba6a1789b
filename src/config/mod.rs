//! The configuration: all settings, where they come from, and how large memory must be.

mod certificates;
mod environment;
mod explain;
pub(crate) mod export;
mod origins;
mod resource;
mod settings;
mod sizing;
mod variables;

pub(crate) use certificates::WatchedTls;
pub use export::{Export, ProxyChoice};
pub use origins::Origins;
pub use resource::{Resource, ResourceValue, SchemaConflict};
pub use settings::{Config, ConfigError, WorkerChoice};
pub use sizing::{Load, Sizing, size};
pub use variables::VARIABLES;
