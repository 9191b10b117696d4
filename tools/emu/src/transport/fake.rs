// SPDX-License-Identifier: GPL-2.0
//! A host for tests: memory is a vector, interrupts are counted.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{Bus, BusError};

/// The host address of the first byte of memory.
pub const BASE: u64 = 0x1_0000_0000;

/// What was done to host memory, or sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    Write { address: u64, size: usize },
    Store { address: u64 },
    Interrupt(u16),
}

pub struct FakeBus {
    memory: Mutex<Vec<u8>>,
    did: Mutex<Vec<Did>>,
    interrupts: Mutex<[u32; 16]>,
    interrupted: Condvar,
}

impl FakeBus {
    /// With this many bytes of memory, all 0.
    pub fn new(size: usize) -> Self {
        Self {
            memory: Mutex::new(vec![0; size]),
            did: Mutex::default(),
            interrupts: Mutex::new([0; 16]),
            interrupted: Condvar::new(),
        }
    }

    pub fn interrupts(&self, vector: usize) -> u32 {
        self.interrupts.lock()[vector]
    }

    /// Waits until `vector` was raised `count` times.
    pub fn wait_interrupts(&self, vector: usize, count: u32) -> bool {
        let end = Instant::now() + Duration::from_secs(10);
        let mut interrupts = self.interrupts.lock();
        while interrupts[vector] < count {
            if self
                .interrupted
                .wait_until(&mut interrupts, end)
                .timed_out()
            {
                return false;
            }
        }
        true
    }

    /// What was done since this was asked last, in order.
    pub fn did(&self) -> Vec<Did> {
        std::mem::take(&mut *self.did.lock())
    }

    /// Nothing accesses memory as long as the result lives: accesses wait.
    pub fn freeze(&self) -> MutexGuard<'_, Vec<u8>> {
        self.memory.lock()
    }

    /// Puts bytes into host memory, as the host itself.
    pub fn put(&self, address: u64, bytes: &[u8]) {
        self.with(address, bytes.len(), |memory| memory.copy_from_slice(bytes))
            .expect("it is in memory");
    }

    /// Bytes of host memory, which must exist.
    pub fn bytes<const N: usize>(&self, address: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.read(address, &mut bytes).expect("it is in memory");
        bytes
    }

    pub fn u32(&self, address: u64) -> u32 {
        u32::from_le_bytes(self.bytes(address))
    }

    pub fn u64(&self, address: u64) -> u64 {
        u64::from_le_bytes(self.bytes(address))
    }

    fn with<T>(
        &self,
        address: u64,
        size: usize,
        access: impl FnOnce(&mut [u8]) -> T,
    ) -> Result<T, BusError> {
        let mut memory = self.memory.lock();
        let range = address
            .checked_sub(BASE)
            .and_then(|start| usize::try_from(start).ok())
            .and_then(|start| Some(start..start.checked_add(size)?));
        range
            .and_then(|range| memory.get_mut(range))
            .map(access)
            .ok_or(BusError { address })
    }
}

impl Bus for FakeBus {
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), BusError> {
        self.with(address, to.len(), |memory| to.copy_from_slice(memory))
    }

    fn write(&self, address: u64, from: &[u8]) -> Result<(), BusError> {
        let size = from.len();
        self.did.lock().push(Did::Write { address, size });
        self.with(address, from.len(), |memory| memory.copy_from_slice(from))
    }

    fn load(&self, address: u64) -> Result<u32, BusError> {
        if address % 4 != 0 {
            return Err(BusError { address });
        }
        let mut word = [0; 4];
        self.read(address, &mut word)?;
        Ok(u32::from_le_bytes(word))
    }

    fn store(&self, address: u64, value: u32) -> Result<(), BusError> {
        if address % 4 != 0 {
            return Err(BusError { address });
        }
        self.did.lock().push(Did::Store { address });
        let value = value.to_le_bytes();
        self.with(address, 4, |memory| memory.copy_from_slice(&value))
    }

    fn interrupt(&self, vector: u16) {
        self.did.lock().push(Did::Interrupt(vector));
        self.interrupts.lock()[usize::from(vector)] += 1;
        self.interrupted.notify_all();
    }
}
