//! Time that the library's threads wait for one another before they sleep.

/// Turns of a waiting thread's loop, about 30 microseconds: most waits within a graph are shorter. The
/// default of 300,000 turns burns all of them on a busy machine, at every wait for a thread that is not
/// running.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const TURNS: &str = "1000";

/// Variables of OpenMP whose presence leaves its settings alone.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const GIVEN: [&str; 2] = ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"];

/// Makes waiting threads sleep soon. GCC's OpenMP reads its settings before `main`: the program starts once
/// more as the same process. If it cannot, it continues unchanged.
pub(super) fn sleep_soon() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if GIVEN.iter().all(|name| std::env::var_os(name).is_none())
        && let Ok(program) = std::env::current_exe()
    {
        use std::os::unix::process::CommandExt;

        let mut args = std::env::args_os();
        let mut again = std::process::Command::new(program);
        if let Some(name) = args.next() {
            again.arg0(name);
        }
        let error = again.args(args).env("GOMP_SPINCOUNT", TURNS).exec();
        tracing::debug!("the program cannot be started again: {error}");
    }
}
