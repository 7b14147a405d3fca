//! Switches ONNX Runtime's telemetry off.
//!
//! ONNX Runtime 1.32 creates a device id and a database in the user's cache folder when its
//! environment is created. Some ten seconds later it sends the id, the program's path and facts
//! about the machine to its vendor. `with_telemetry(false)` does not prevent that. The environment
//! variable [`SWITCH`] does.

/// Environment variable that ONNX Runtime reads when its environment is created; "1" disables
/// telemetry.
pub(super) const SWITCH: &str = "ORT_DISABLE_TELEMETRY";

/// Sets [`SWITCH`] in every program that links this crate: the daemon, the trainer, tests and
/// examples. Another value from the user is replaced, so that it cannot switch telemetry on.
///
/// The function runs before `main`, because `set_var` is sound only while no other thread runs: C
/// libraries (GLib, ONNX Runtime) read the environment without a lock. Test programs have threads
/// before any code of a test runs, and each `main` would have to contain the call.
/// `.cargo/config.toml` would not affect an installed program.
#[ctor::ctor(unsafe)]
fn switch_off() {
    // SAFETY: static constructors run before `main`, while the process has one thread.
    unsafe { std::env::set_var(SWITCH, "1") };
}

/// Whether the environment variable [`SWITCH`] is "1". [`Runtime::load`](super::Runtime::load)
/// panics otherwise.
pub fn telemetry_is_off() -> bool {
    std::env::var_os(SWITCH).is_some_and(|value| value == "1")
}
