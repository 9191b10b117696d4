// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who uses a device, and how much of what there may be.

use crate::info::{enumeration, text};
use crate::uapi::*;

/// Who has a compute file open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The process that opened it, if it still runs and can be seen from here. The file may have
    /// been passed on since.
    pub pid: Option<u32>,
    /// Effective user id of that process then.
    pub uid: u32,
    /// Name of that process then.
    pub name: String,
    /// Whether what it had on the device was lost in a reset.
    pub lost: bool,
    /// Nanoseconds of `CLOCK_MONOTONIC` when it was opened, to the tick.
    pub opened_ns: u64,
    /// Buffers that it has.
    pub buffers: u64,
    /// Bytes of them.
    pub buffer_bytes: u64,
}

impl Client {
    /// `None` for a file of somebody of whom the caller may not know.
    pub(crate) fn from_raw(raw: &accel_info_client) -> Option<Self> {
        (raw.flags & ACCEL_CLIENT_VISIBLE != 0).then(|| Self {
            pid: (raw.pid != 0).then_some(raw.pid),
            uid: raw.uid,
            name: text(&raw.name),
            lost: raw.lost != 0,
            opened_ns: raw.opened_ns,
            buffers: raw.buffers,
            buffer_bytes: raw.buffer_bytes,
        })
    }
}

enumeration! {
    /// What there are limits on.
    Thing {
        /// Open files of both nodes.
        Files = ACCEL_LIMIT_FILES, "files";
        /// Open compute files.
        Contexts = ACCEL_LIMIT_CONTEXTS, "contexts";
        /// Buffers that have a handle.
        Buffers = ACCEL_LIMIT_BUFFERS, "buffers";
        /// Mappings of a file.
        Mappings = ACCEL_LIMIT_MAPPINGS, "mappings";
        /// Timelines that have a handle.
        Timelines = ACCEL_LIMIT_TIMELINES, "timelines";
        /// Jobs that have not ended.
        Jobs = ACCEL_LIMIT_JOBS, "jobs";
        /// Events that were not read.
        Events = ACCEL_LIMIT_EVENTS, "events";
    }
}

/// How much there may be of a thing, and how much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// How much there is.
    pub used: u32,
    /// Most that there may be, where there is a limit.
    pub max: Option<u32>,
}

impl Usage {
    fn new(used: u32, max: u32) -> Self {
        Self {
            used,
            max: (max != u32::MAX).then_some(max),
        }
    }
}

/// The limits on one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// What is limited.
    pub thing: Thing,
    /// In this file.
    pub file: Usage,
    /// Of the user who opened this file, on this device.
    pub user: Usage,
    /// On this device.
    pub device: Usage,
}

impl From<&accel_info_limit> for Limits {
    fn from(raw: &accel_info_limit) -> Self {
        Self {
            thing: raw.limit.into(),
            file: Usage::new(raw.file_used, raw.file_max),
            user: Usage::new(raw.user_used, raw.user_max),
            device: Usage::new(raw.device_used, raw.device_max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_are_not_told_are_none() {
        let mut raw = accel_info_client::default();
        assert_eq!(Client::from_raw(&raw), None);
        raw.flags = ACCEL_CLIENT_VISIBLE;
        raw.uid = 7;
        raw.lost = 1;
        let client = Client::from_raw(&raw);
        assert!(client.is_some_and(|it| it.pid.is_none() && it.uid == 7 && it.lost));
    }

    #[test]
    fn all_ones_is_no_limit() {
        let limits = Limits::from(&accel_info_limit {
            limit: ACCEL_LIMIT_JOBS,
            file_max: 5,
            user_max: u32::MAX,
            user_used: 3,
            ..Default::default()
        });
        assert_eq!(limits.thing, Thing::Jobs);
        assert_eq!(limits.file.max, Some(5));
        assert_eq!((limits.user.used, limits.user.max), (3, None));
    }
}
