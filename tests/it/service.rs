//! Tests of the systemd service: its unit file and its notifications.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Text of the unit file.
const UNIT: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/systemd/expressd.service"
));

/// The path in the unit is replaced by that of an existing program, as `make install` does.
#[test]
fn systemd_accepts_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("expressd.service");
    let program = Path::new(env!("CARGO_BIN_EXE_expressd"));
    std::fs::write(
        &unit,
        UNIT.replace("/usr/local/bin/expressd", program.to_str().unwrap()),
    )
    .unwrap();
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&unit)
        .output();
    let verified =
        verified.expect("systemd-analyze starts (package systemd; `make test` installs it)");
    let printed = String::from_utf8_lossy(&verified.stderr);
    // Only messages about this unit count.
    let about_ours: Vec<&str> = printed
        .lines()
        .filter(|line| line.contains("expressd"))
        .collect();
    assert!(
        verified.status.success() && about_ours.is_empty(),
        "{}\n{printed}",
        verified.status
    );
}

/// The limit is 1.9 on the scale of `systemd-analyze security`, from 0.0 (everything is denied) to
/// 10.0.
#[test]
fn the_unit_exposes_no_more_than_it_has_to() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("expressd.service");
    std::fs::write(&unit, UNIT).unwrap();
    let measured = Command::new("systemd-analyze")
        .args(["security", "--offline=yes", "--threshold=19", "--no-pager"])
        .arg(&unit)
        .output()
        .expect("systemd-analyze starts (package systemd; `make test` installs it)");
    let printed =
        String::from_utf8_lossy(&[measured.stdout, measured.stderr].concat()).into_owned();
    assert!(measured.status.success(), "more than 1.9: {printed}");
}

#[test]
fn the_unit_has_the_required_settings_and_no_harmful_ones() {
    let settings: Vec<&str> = UNIT
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .collect();
    for wanted in [
        "Type=notify",
        // The service does not play the demonstration.
        "ExecStart=/usr/local/bin/expressd run",
        "Wants=modprobe@videodev.service modprobe@snd.service",
        "SupplementaryGroups=video audio",
        "DynamicUser=yes",
        "StateDirectory=expressd",
        // The service connects to no other machine.
        "Environment=ORT_DISABLE_TELEMETRY=1",
        "IPAddressDeny=any",
        "IPAddressAllow=localhost",
    ] {
        assert!(settings.contains(&wanted), "{wanted}");
    }
    assert!(settings.iter().any(|line| line.starts_with("WatchdogSec=")));
    // RestartPreventExitStatus= does not consider the exit code of ExecStartPre=.
    for harmful in [
        "ExecStartPre=",
        "PrivateDevices=",
        "MemoryDenyWriteExecute=",
    ] {
        assert!(
            !settings.iter().any(|line| line.starts_with(harmful)),
            "{harmful}"
        );
    }
}

/// Binds the notify socket for a child process. The child is this test binary, which sends the
/// notifications if an environment variable is set.
#[test]
fn notifications_follow_the_protocol_of_systemd() {
    if std::env::var_os("EXPRESSD_TEST_TALK").is_some() {
        let notify = expressd::notify::Notify;
        assert_eq!(
            expressd::notify::watchdog_interval(),
            Some(Duration::from_secs(30))
        );
        notify.extend_start(Duration::from_millis(1500));
        notify.ready("delivering\nWATCHDOG=trigger");
        notify.status("2 subjects, 0 dropped");
        notify.feed_watchdog();
        notify.stopping();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "service::notifications_follow_the_protocol_of_systemd",
        ])
        .env("EXPRESSD_TEST_TALK", "1")
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "30000000")
        .env_remove("WATCHDOG_PID")
        .output()
        .unwrap();
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stdout)
    );
    let next = || {
        let mut bytes = [0; 1024];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    };
    assert_eq!(next(), "EXTEND_TIMEOUT_USEC=1500000\n");
    assert_eq!(next(), "READY=1\nSTATUS=delivering WATCHDOG=trigger\n");
    assert_eq!(next(), "STATUS=2 subjects, 0 dropped\n");
    assert_eq!(next(), "WATCHDOG=1\n");
    assert_eq!(next(), "STOPPING=1\nSTATUS=stopping\n");
}
