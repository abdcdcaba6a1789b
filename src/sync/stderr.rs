//! One line to the standard error, past the locks of the standard library: in a child process a thread of the parent
//! may seem to hold one for ever.

/// Writes a line. What cannot be written is nobody's loss.
pub(crate) fn write_line(line: &str) {
    write(format!("{line}\n").as_bytes());
}

/// Writes these bytes, without an allocation.
pub(crate) fn write(bytes: &[u8]) {
    imp::write(bytes);
}

#[cfg(unix)]
mod imp {
    pub(super) fn write(mut bytes: &[u8]) {
        while !bytes.is_empty() {
            // SAFETY: the bytes are readable for their length; the descriptor is whatever the program has there.
            let written = unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
            match usize::try_from(written) {
                Ok(written) if written > 0 => bytes = &bytes[written.min(bytes.len())..],
                _ => return,
            }
        }
    }
}

#[cfg(not(unix))]
mod imp {
    pub(super) fn write(bytes: &[u8]) {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), bytes);
    }
}
