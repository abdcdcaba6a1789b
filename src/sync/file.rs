//! Opens files without waiting for a writer, and tells when one was replaced.

use std::{
    fs::{self, File, Metadata},
    io,
    path::Path,
    time::SystemTime,
};

/// What tells a file from another one in its place: when it was written, its length in bytes, and what the system knows
/// it by.
pub(crate) type Stamp = (SystemTime, u64, [u64; 2], [i64; 2]);

/// Opens a regular file to be read. Of a pipe or a device nobody knows when it has something, or when it ends.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    // POSIX, open(): of a pipe the call would wait for a writer, and a terminal might become ours.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = options.open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

/// The stamp of the file; `None` if there is none, or it cannot be looked at.
pub(crate) fn stamp(path: &Path) -> Option<Stamp> {
    let data = fs::metadata(path).ok()?;
    let (place, change) = identity(&data);
    Some((data.modified().ok()?, data.len(), place, change))
}

/// Its place on the disk, and its last change. Files that come out of an image may all be written at the same time.
#[cfg(unix)]
fn identity(data: &Metadata) -> ([u64; 2], [i64; 2]) {
    use std::os::unix::fs::MetadataExt;

    ([data.dev(), data.ino()], [data.ctime(), data.ctime_nsec()])
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> ([u64; 2], [i64; 2]) {
    Default::default()
}
