//! The process's own memory.

/// Returns the peak resident set in bytes, from the system's own count (`VmHWM` on Linux, `getrusage`
/// elsewhere); `None` if the system does not tell.
#[must_use]
pub fn peak_rss() -> Option<u64> {
    system()
}

/// Returns the present resident set in bytes (`VmRSS` on Linux); `None` if the system does not tell.
#[must_use]
pub fn rss() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return status("VmRSS:");
    #[cfg(not(target_os = "linux"))]
    return None;
}

#[cfg(target_os = "linux")]
fn system() -> Option<u64> {
    // getrusage would count the parent's memory before exec.
    status("VmHWM:")
}

#[cfg(target_os = "linux")]
fn status(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(all(unix, not(target_os = "linux")))]
fn system() -> Option<u64> {
    use nix::sys::resource::{UsageWho, getrusage};
    let peak = u64::try_from(getrusage(UsageWho::RUSAGE_SELF).ok()?.max_rss()).ok()?;
    // The unit is bytes on macOS, kilobytes on the BSDs.
    Some(if cfg!(target_os = "macos") { peak } else { peak * 1024 })
}

#[cfg(not(unix))]
fn system() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(unix)]
    fn grows_with_what_is_touched() {
        let touched = vec![1u8; 64 << 20];
        let peak = super::peak_rss().unwrap();
        assert!(touched.contains(&1) && peak >= 64 << 20, "{peak}");
        assert!(super::rss().is_none_or(|now| (64 << 20..=peak).contains(&now)));
    }
}
