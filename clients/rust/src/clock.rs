//! The one clock of the crate: monotonic, and it also counts while the machine is suspended, where the system has one.

use crate::core::Ns;

/// Returns nanoseconds since a fixed instant in the past.
///
/// The time for which a laptop or a virtual machine was suspended must count towards the age of its grant. Linux has
/// `CLOCK_BOOTTIME` for that.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn now_ns() -> Ns {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid for writing one timespec. The clock exists since Linux 2.6.39, so it cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    u64::try_from(now.tv_sec).unwrap_or(0) * crate::core::NS_PER_S + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Returns nanoseconds since the first call. Elsewhere it is the standard library's clock.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn now_ns() -> Ns {
    static BEGIN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let begin = BEGIN.get_or_init(std::time::Instant::now);
    u64::try_from(begin.elapsed().as_nanos()).unwrap_or(Ns::MAX)
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_only_grows() {
        let first = super::now_ns();
        assert!(super::now_ns() >= first);
        assert!(first > 0 || cfg!(not(target_os = "linux")));
    }
}
