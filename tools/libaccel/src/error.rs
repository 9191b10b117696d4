// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors that name the call, the device, and what can be done.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::io::Errno;

use crate::npu;

/// What goes wrong with an accelerator.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A node could not be opened.
    Open {
        /// The node's path.
        path: String,
        /// Why.
        errno: Errno,
        /// The group that may open it, where the node's mode gives it to one.
        group: Option<String>,
    },
    /// A call to an open device failed.
    Call {
        /// The device's node, `accel0` or `accel_control0`.
        device: String,
        /// The call, under its name in C.
        call: &'static str,
        /// Why.
        errno: Errno,
    },
    /// A job ended badly.
    Job {
        /// The device's node.
        device: String,
        /// The point that was waited for; the job is at it or before it.
        point: u64,
        /// The timeline's value, which reached `point` all the same.
        value: u64,
        /// How the first such job ended.
        status: Errno,
    },
    /// A job of an NPU ended badly, and the device told why.
    Npu {
        /// The device's node.
        device: String,
        /// How the first job that was waited for and failed ended.
        status: Errno,
        /// What the device told.
        failure: npu::Failure,
    },
    /// A device would refuse it, so it was not tried.
    Refused {
        /// What: a command under its name in the manual, a tensor and so on.
        what: &'static str,
        /// Why, and what would do.
        why: String,
    },
    /// A range is outside of a mapping.
    Range {
        /// The device's node.
        device: String,
        /// First byte.
        offset: usize,
        /// Bytes.
        len: usize,
        /// Bytes that the mapping has.
        size: usize,
    },
    /// What was found under a node's name is something else.
    Strange {
        /// The node's path.
        path: String,
        /// What was expected and what it is.
        what: String,
    },
    /// There is no accelerator, or none with the calls that were asked for.
    None {
        /// The name of those calls, when only such were looked for.
        uapi_name: Option<String>,
    },
}

/// What the functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The errno, where there is one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Open { errno, .. } | Self::Call { errno, .. } => Some(*errno),
            Self::Job { status, .. } | Self::Npu { status, .. } => Some(*status),
            Self::Refused { .. }
            | Self::Range { .. }
            | Self::Strange { .. }
            | Self::None { .. } => None,
        }
    }

    /// Whether the device is gone. It stays so: close what is open and look again.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Open { errno, .. } => matches!(*errno, Errno::NODEV | Errno::NXIO),
            Self::Call { errno, .. } => *errno == Errno::NODEV,
            _ => false,
        }
    }

    /// Whether a deadline passed before what was waited for.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Call { errno, .. } if *errno == Errno::TIME)
    }

    /// The error of opening `path`, with the group that could have.
    pub(crate) fn open(path: &Path, errno: Errno) -> Self {
        let group = (errno == Errno::ACCESS).then(|| group_of(path)).flatten();
        Self::Open {
            path: path.display().to_string(),
            errno,
            group,
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { path, errno, group } => {
                write!(f, "{path}: cannot open: {}", Named(*errno))?;
                match (*errno, group) {
                    (Errno::ACCESS, Some(group)) => write!(
                        f,
                        ". Group \"{group}\" may: usermod -aG {group} $USER, then log in again"
                    ),
                    (Errno::ACCESS, None) => f.write_str(
                        ". No group may: give it one with a udev rule, or run this as root",
                    ),
                    _ => advise(f, open_advice(*errno)),
                }
            }
            Self::Call {
                device,
                call,
                errno,
            } => {
                write!(f, "{device}: {call}: {}", Named(*errno))?;
                advise(f, call_advice(call, *errno))
            }
            Self::Job {
                device,
                point,
                status,
                ..
            } => {
                write!(
                    f,
                    "{device}: a job at or before point {point} failed: {}",
                    Named(*status)
                )?;
                advise(f, job_advice(*status))
            }
            Self::Npu {
                device, failure, ..
            } => write!(f, "{device}: {failure}"),
            Self::Refused { what, why } => write!(f, "{what}: {why}"),
            Self::Range {
                device,
                offset,
                len,
                size,
            } => write!(
                f,
                "{device}: {len} bytes at {offset} are not inside of a mapping of {size}"
            ),
            Self::Strange { path, what } => write!(f, "{path}: {what}"),
            Self::None { uapi_name } => {
                f.write_str("no accelerator found")?;
                if let Some(name) = uapi_name {
                    write!(f, " that has the calls of {name}")?;
                }
                advise(f, NONE)
            }
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = error
            .errno()
            .map_or(io::ErrorKind::Other, |errno| errno.kind());
        Self::new(kind, error)
    }
}

/// Adds a sentence, if there is one.
fn advise(f: &mut fmt::Formatter<'_>, advice: &str) -> fmt::Result {
    if advice.is_empty() {
        Ok(())
    } else {
        write!(f, ". {advice}")
    }
}

fn open_advice(errno: Errno) -> &'static str {
    match errno {
        Errno::PERM => "A policy forbids it: a container needs the device passed in",
        Errno::NOENT => "Is its driver loaded, and is /dev a devtmpfs?",
        Errno::NODEV | Errno::NXIO => GONE,
        Errno::BUSY => "As many use it as it can serve: close another user, or take another device",
        Errno::AGAIN => "It is being reset: try again in a moment",
        Errno::DQUOT => DQUOT,
        Errno::NOSPC => "As many files of it are open as it takes: close another program",
        _ => "",
    }
}

const DQUOT: &str = "You have as many of these on this device as a user may: close what is not \
     needed. Root sets the limits in /sys/class/accel/accelN/limits (or accel_core)";

const GONE: &str = "The device is gone: close it and look for it again";

const NONE: &str = "Load a driver (modprobe accel_edu for QEMU's edu device, modprobe accel_null \
     for one without hardware; both load the core, accel). Where one is loaded, dmesg has what it \
     said when it looked for its device";

fn call_advice(call: &str, errno: Errno) -> &'static str {
    match (call, errno) {
        ("ACCEL_NPU_IOCTL_MAP", Errno::NOSPC) => {
            "The device has no memory for it, or for page tables: drop what is not needed"
        }
        ("ACCEL_NPU_IOCTL_MAP", Errno::EXIST) => {
            "Something else mapped memory on this file: leave that to the context"
        }
        ("ACCEL_NPU_IOCTL_SUBMIT", Errno::IO) => {
            "The context is stopped (its error tells why), or the device has failed: see dmesg"
        }
        _ => errno_advice(errno),
    }
}

fn errno_advice(errno: Errno) -> &'static str {
    match errno {
        Errno::NODEV => GONE,
        Errno::AGAIN => "Too much is queued already: wait for a job to end and try again",
        Errno::NOTTY => {
            "This node has no such call: control nodes take INFO only, a driver's own calls \
             are those of the interface that its identity names"
        }
        Errno::OPNOTSUPP => "This kernel is older than this program and does not know that",
        Errno::TOOBIG => "This kernel is older than this program and does not know all of that",
        Errno::NODATA => "This device has no such thing",
        Errno::TIME => "The deadline passed; what was waited for may still happen",
        Errno::NOMEM => "No memory, or the limit of the memory cgroup (memory.max) is reached",
        Errno::NOSPC => "This open file, or the device, has as many as it may: drop some",
        Errno::DQUOT => DQUOT,
        Errno::NOENT => "This open file has no such object: objects belong to the file they are of",
        Errno::BUSY => "The device is being reset or used up: try again in a moment",
        _ => "",
    }
}

fn job_advice(errno: Errno) -> &'static str {
    match errno {
        Errno::CANCELED => {
            "It was dropped: its file was closed, or the device was reset or removed"
        }
        Errno::IO => "The device failed: see dmesg and the device's state",
        Errno::TIMEDOUT => "The device took too long and was stopped",
        _ => "",
    }
}

/// `text (NAME)`, so that it can be read and looked up.
struct Named(Errno);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = match self.0 {
            Errno::ACCESS => Some(("permission denied", "EACCES")),
            Errno::AGAIN => Some(("try again", "EAGAIN")),
            Errno::BADF => Some(("bad file descriptor", "EBADF")),
            Errno::BUSY => Some(("busy", "EBUSY")),
            Errno::CANCELED => Some(("cancelled", "ECANCELED")),
            Errno::DQUOT => Some(("quota exceeded", "EDQUOT")),
            Errno::EXIST => Some(("exists already", "EEXIST")),
            Errno::FAULT => Some(("bad address", "EFAULT")),
            Errno::INTR => Some(("interrupted", "EINTR")),
            Errno::INVAL => Some(("invalid argument", "EINVAL")),
            Errno::IO => Some(("input/output error", "EIO")),
            Errno::MFILE => Some(("too many open files", "EMFILE")),
            Errno::NODATA => Some(("no data", "ENODATA")),
            Errno::NODEV => Some(("no such device", "ENODEV")),
            Errno::NOENT => Some(("no such thing", "ENOENT")),
            Errno::NOMEM => Some(("out of memory", "ENOMEM")),
            Errno::NOSPC => Some(("no room", "ENOSPC")),
            Errno::NOTTY => Some(("no such call", "ENOTTY")),
            Errno::NXIO => Some(("no such device or address", "ENXIO")),
            Errno::OPNOTSUPP => Some(("not supported", "EOPNOTSUPP")),
            Errno::PERM => Some(("not permitted", "EPERM")),
            Errno::RANGE => Some(("out of range", "ERANGE")),
            Errno::TIME => Some(("timed out", "ETIME")),
            Errno::TIMEDOUT => Some(("timed out", "ETIMEDOUT")),
            Errno::TOOBIG => Some(("argument too big", "E2BIG")),
            _ => None,
        };
        match known {
            Some((text, name)) => write!(f, "{text} ({name})"),
            None => fmt::Display::fmt(&self.0, f),
        }
    }
}

/// The name of the group that may read and write the node, if its mode says so.
fn group_of(path: &Path) -> Option<String> {
    let node = fs::metadata(path).ok()?;
    if node.mode() & 0o060 != 0o060 {
        return None;
    }
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    // Adding somebody to root's own group is no advice to give.
    (node.gid() != 0).then(|| group_name(&groups, node.gid()))
}

/// The name of group `gid` in the text of `/etc/group`, or the number.
fn group_name(groups: &str, gid: u32) -> String {
    let wanted = gid.to_string();
    groups
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == wanted).then_some(name)
        })
        .next()
        .map_or(wanted.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(errno: Errno) -> String {
        Error::Call {
            device: "accel3".into(),
            call: "ACCEL_IOCTL_TIMELINE_WAIT",
            errno,
        }
        .to_string()
    }

    #[test]
    fn a_device_that_is_gone_says_what_to_do() {
        assert_eq!(
            call(Errno::NODEV),
            "accel3: ACCEL_IOCTL_TIMELINE_WAIT: no such device (ENODEV). \
             The device is gone: close it and look for it again"
        );
    }

    #[test]
    fn names_are_given_even_without_advice() {
        assert_eq!(
            call(Errno::INVAL),
            "accel3: ACCEL_IOCTL_TIMELINE_WAIT: invalid argument (EINVAL)"
        );
        assert!(call(Errno::XDEV).contains("os error 18"));
    }

    #[test]
    fn advice_is_for_the_call() {
        let map = Error::Call {
            device: "accel0".into(),
            call: "ACCEL_NPU_IOCTL_MAP",
            errno: Errno::NOSPC,
        };
        let text = map.to_string();
        assert!(
            text.contains("no room (ENOSPC). The device has no"),
            "{text}"
        );
        assert!(call(Errno::NOSPC).contains("as many as it may"));
    }

    #[test]
    fn what_the_device_told_is_said() {
        let raw = crate::uapi::accel_npu_error {
            kind: crate::uapi::ACCEL_NPU_ERROR_SIZE,
            command: 2,
            point: 5,
            count: 1,
            ..Default::default()
        };
        let error = Error::Npu {
            device: "accel0".into(),
            status: Errno::TOOBIG,
            failure: (&raw).into(),
        };
        let text = error.to_string();
        assert!(
            text.starts_with("accel0: job at point 5, command 2: it is larger"),
            "{text}"
        );
        assert_eq!(error.errno(), Some(Errno::TOOBIG));
    }

    #[test]
    fn opening_names_the_group() {
        let mut error = Error::Open {
            path: "/dev/accel/accel0".into(),
            errno: Errno::ACCESS,
            group: Some("render".into()),
        };
        let text = error.to_string();
        assert!(text.contains("permission denied (EACCES)"), "{text}");
        assert!(text.contains("usermod -aG render $USER"), "{text}");
        if let Error::Open { group, .. } = &mut error {
            *group = None;
        }
        assert!(error.to_string().contains("udev rule"), "{error}");
    }

    #[test]
    fn none_says_what_to_load() {
        let text = Error::None { uapi_name: None }.to_string();
        assert!(text.starts_with("no accelerator found. Load"), "{text}");
        let text = Error::None {
            uapi_name: Some("accel_edu".into()),
        }
        .to_string();
        assert!(text.contains("the calls of accel_edu. Load"), "{text}");
    }

    #[test]
    fn kinds_can_be_asked_for() {
        let gone = Error::open(Path::new("/nonexistent"), Errno::NXIO);
        assert!(gone.is_gone());
        assert!(!gone.is_timeout());
        let late = Error::Call {
            device: "accel0".into(),
            call: "x",
            errno: Errno::TIME,
        };
        assert!(late.is_timeout());
        let io: io::Error = Error::Call {
            device: "accel0".into(),
            call: "x",
            errno: Errno::ACCESS,
        }
        .into();
        assert_eq!(io.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn groups_are_looked_up() {
        let text = "root:x:0:\nbroken\nrender:x:104:me,you\n";
        assert_eq!(group_name(text, 104), "render");
        assert_eq!(group_name(text, 105), "105");
        assert_eq!(group_name("", 1), "1");
    }
}
