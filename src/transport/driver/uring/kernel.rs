//! Whether this kernel is worth asking for a ring: what can be known without the attempt.
//!
//! An attempt is not free: there are sandboxes that answer it by ending the process.

use std::fs;

/// 6.1 has what the ring is opened with: deferred work for a single issuer. The long-term kernels before it send us to
/// poll.
const RELEASE_MIN: (u32, u32) = (6, 1);

/// Why not to ask, if there is a reason. A file that cannot be read is not one.
pub(super) fn objection() -> Option<String> {
    let read = |path| fs::read_to_string(path).ok();
    let release = read("/proc/sys/kernel/osrelease").and_then(|text| too_old(&text));
    release.or_else(|| read("/proc/sys/kernel/io_uring_disabled").and_then(|text| disabled(&text)))
}

fn too_old(release: &str) -> Option<String> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return None;
    };
    let (least_major, least_minor) = RELEASE_MIN;
    ((major, minor) < RELEASE_MIN).then(|| format!("kernel {major}.{minor} is older than {least_major}.{least_minor}"))
}

/// 1 allows some processes: only asking tells.
fn disabled(setting: &str) -> Option<String> {
    (setting.trim() == "2").then(|| "kernel.io_uring_disabled is 2".into())
}

/// The kernel's version for people; empty if it does not say.
pub(super) fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_not_asked() {
        for old in ["5.15.0-91-generic", "4.18.0-513.el8.x86_64", "6.0.19", "2.6.32"] {
            assert!(too_old(old).is_some(), "{old}");
        }
        for new in ["6.1.0-18-amd64", "6.18.44-fc-v669\n", "7.0", "10.2.3"] {
            assert_eq!(too_old(new), None, "{new}");
        }
        for strange in ["", "six.one", "6", "99999999999.1", "..."] {
            assert_eq!(too_old(strange), None, "{strange:?}");
        }
    }

    #[test]
    fn setting_that_forbids_it_to_all_is_heard() {
        assert!(disabled("2\n").is_some());
        assert_eq!(disabled("0\n"), None);
        assert_eq!(disabled("1\n"), None);
    }
}
