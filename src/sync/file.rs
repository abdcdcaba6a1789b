//! Files that are read without a wait for anybody who writes into them.

use std::{fs::File, io, path::Path};

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
