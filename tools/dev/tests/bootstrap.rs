// SPDX-License-Identifier: GPL-2.0
//! `bootstrap.sh` says clearly what is wrong with a host. The host's faults are made by programs
//! of our own that come first in `PATH`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A host with some faults.
struct Host {
    folder: PathBuf,
    path: String,
}

impl Host {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("accel-host-{}-{name}", std::process::id()));
        fs::create_dir_all(folder.join("bin")).expect("a temporary folder can be made");
        let path = format!(
            "{}:/usr/sbin:/usr/bin:/sbin:/bin",
            folder.join("bin").display()
        );
        // The build root, where this test runs, does without.
        Self { folder, path }.with("mount", "exit 0")
    }

    /// Puts a program in front of the one of this name.
    fn with(self, name: &str, script: &str) -> Self {
        let file = self.folder.join("bin").join(name);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("a program can be written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))
            .expect("a program can be made executable");
        self
    }

    /// Leaves only the named programs.
    fn with_only(mut self, names: &[&str]) -> Self {
        for name in names {
            let found = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
                .iter()
                .map(|folder| Path::new(folder).join(name))
                .find(|path| path.exists())
                .expect("the build root has it");
            let link = self.folder.join("bin").join(name);
            std::os::unix::fs::symlink(found, link).expect("a link can be made");
        }
        self.path = self.folder.join("bin").display().to_string();
        self
    }

    fn cache(&self) -> PathBuf {
        self.folder.join("cache")
    }

    /// Runs the script; it has to fail. Gives what it said.
    fn refusal(&self) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("bootstrap.sh");
        let done = Command::new("/bin/sh")
            .arg(script)
            .arg("setup")
            .env_clear()
            .env("PATH", &self.path)
            .env("ACCEL_CACHE", self.cache())
            .output()
            .expect("sh can be started");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success(), "it did not fail: {said}");
        assert!(said.contains("accel: "), "no message of its own: {said}");
        said
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn wrong_architecture() {
    let host = Host::new("arch").with("uname", "[ \"$1\" = -s ] && echo Linux || echo aarch64");
    let said = host.refusal();
    assert!(
        said.contains("needs an x86-64 host; this is aarch64"),
        "{said}"
    );
}

#[test]
fn missing_tool() {
    let host = Host::new("tool").with_only(&["uname", "dirname", "date", "unshare", "chroot"]);
    let said = host.refusal();
    assert!(said.contains("'flock' is missing"), "{said}");
}

#[test]
fn no_mmdebstrap_and_no_way_to_install_it() {
    let host = Host::new("mmdebstrap").with_only(&[
        "uname",
        "dirname",
        "date",
        "unshare",
        "chroot",
        "flock",
        "sha256sum",
        "df",
        "awk",
        "mkdir",
        "ls",
        "sh",
        "id",
        "cat",
        "cut",
        "true",
        "rm",
        "sed",
        "tail",
        "grep",
    ]);
    let said = host.refusal();
    assert!(
        said.contains("mmdebstrap is missing. Install it:"),
        "{said}"
    );
}

#[test]
fn no_room() {
    let host = Host::new("room")
        .with("mmdebstrap", "exit 1")
        .with("df", "echo header; echo disk 1 1 20480 1 /");
    let said = host.refusal();
    assert!(said.contains("has 20 MB free"), "{said}");
    assert!(said.contains("Set ACCEL_CACHE"), "{said}");
}

#[test]
fn no_network() {
    let host = Host::new("network")
        .with(
            "mmdebstrap",
            "echo \"E: Could not resolve 'mirror.invalid'\" >&2; exit 100",
        )
        .with("df", "echo header; echo disk 1 1 999999999 1 /");
    let said = host.refusal();
    assert!(
        said.contains("The package mirror cannot be reached"),
        "{said}"
    );
    assert!(said.contains("ACCEL_MIRROR"), "{said}");
    assert!(
        !host.cache().join("root").exists(),
        "a root that is not complete must not be used"
    );
}

#[test]
fn no_right_to_mount() {
    let host = Host::new("mounts")
        .with("unshare", "exit 1")
        .with("id", "echo 0");
    let said = host.refusal();
    assert!(said.contains("may not make mounts"), "{said}");
}

#[test]
fn a_cache_folder_with_other_files() {
    let host = Host::new("other");
    fs::create_dir_all(host.cache().join("somebody's")).expect("a folder can be made");
    let said = host.refusal();
    assert!(said.contains("has other files in it"), "{said}");
}

#[test]
fn a_cache_folder_that_cannot_be_written() {
    let host = Host::new("write").with("mkdir", "exit 1");
    let said = host.refusal();
    assert!(said.contains("cannot write the cache folder"), "{said}");
}

#[test]
fn a_user_without_the_means_for_user_namespaces() {
    let host = Host::new("user")
        .with("id", "[ \"$1\" = -un ] && echo someone || echo 1000")
        .with("mmdebstrap", "exit 1")
        .with("newuidmap", "exit 1")
        .with(
            "unshare",
            "[ \"$1\" = --help ] && echo --map-auto && exit 0; exit 1",
        );
    let said = host.refusal();
    assert!(
        said.contains("user namespaces do not work for someone"),
        "{said}"
    );
    assert!(said.contains("/etc/subuid"), "{said}");
}

#[test]
fn a_user_without_newuidmap() {
    let host = Host::new("uidmap")
        .with("id", "echo 1000")
        .with("mmdebstrap", "exit 1");
    let said = host.refusal();
    assert!(said.contains("sudo apt-get install uidmap"), "{said}");
}
