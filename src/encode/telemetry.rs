//! ONNX Runtime's telemetry, switched off.
//!
//! ONNX Runtime 1.32 creates a device id and a database in the user's cache folder when its
//! environment is created. Some ten seconds later it posts the id, the program's path and facts
//! about the machine to its vendor. `with_telemetry(false)` does not prevent that. The environment
//! variable [`SWITCH`] does.

/// Read by ONNX Runtime when its environment is created.
pub(super) const SWITCH: &str = "ORT_DISABLE_TELEMETRY";

/// Sets [`SWITCH`] in every program that links this crate: the daemon, the trainer, tests and
/// examples. A user's own value is replaced: it must not switch telemetry on.
///
/// Why before `main`: `set_var` is sound only while no other thread runs, since C libraries (GLib,
/// ONNX Runtime) read the environment without a lock. Test programs have threads before any code of
/// a test runs, and each `main` would have to remember the call. `.cargo/config.toml` would not
/// reach an installed program.
#[ctor::ctor(unsafe)]
fn switch_off() {
    // SAFETY: static constructors run before `main`, where this process has one thread.
    unsafe { std::env::set_var(SWITCH, "1") };
}

/// Whether [`SWITCH`] is set. `Runtime::load` requires it.
pub fn telemetry_is_off() -> bool {
    std::env::var_os(SWITCH).is_some_and(|value| value == "1")
}
