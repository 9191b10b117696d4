// SPDX-License-Identifier: GPL-2.0
//! Configuration space of a PCI Express function: building it, and what writes to it mean.

use crate::transport::{BARS, Messages};

/// Bytes of the configuration space of a PCI Express function.
pub const SIZE: usize = 4096;

const COMMAND: usize = 0x04;
const COMMAND_BUS_MASTER: u8 = 1 << 2;
/// Memory space, bus master, parity and SERR reporting, INTx disable.
const COMMAND_WRITABLE: u16 = 0x0546;
const STATUS: usize = 0x06;
const STATUS_CAPABILITIES: u16 = 1 << 4;
const BAR: usize = 0x10;
const BAR_64: u8 = 1 << 2;
const BAR_PREFETCHABLE: u8 = 1 << 3;
const CAPABILITIES: usize = 0x34;
/// Where the first capability goes.
const FIRST_CAPABILITY: usize = 0x40;

const PM: u8 = 0x01;
const PM_CONTROL: usize = 4;
const PM_STATE: u8 = 3;
const PM_D3HOT: u8 = 3;

const MSI: u8 = 0x05;
const MSIX: u8 = 0x11;
const MESSAGE_CONTROL: usize = 2;
const MSI_ENABLE: u16 = 1 << 0;
const MSI_64: u16 = 1 << 7;
const MSIX_ENABLE: u16 = 1 << 15;
const MSIX_MASK: u16 = 1 << 14;

const EXPRESS: u8 = 0x10;
const DEVICE_CONTROL: usize = 8;
/// In the second byte of device control.
const FLR: u8 = 1 << 7;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// 32-bit, not prefetchable.
    Bits32,
    /// 64-bit, prefetchable; takes two BARs.
    Bits64,
}

/// Who a function says that it is.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    pub vendor: u16,
    pub device: u16,
    /// Base class, class, interface: 24 bits.
    pub class: u32,
    pub revision: u8,
    pub subsystem: (u16, u16),
}

/// What of the configuration the device obeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    pub bus_master: bool,
    pub d3hot: bool,
    /// How many messages it may send; 0 while they are disabled. Vectors beyond share those that
    /// there are.
    pub vectors: u16,
}

/// A configuration space.
#[derive(Debug, Clone)]
pub struct Config {
    bytes: Vec<u8>,
    /// Which bits a write changes.
    writable: Vec<u8>,
    /// As after a reset.
    initial: Vec<u8>,
    /// Where the next capability is linked from, and where it goes.
    link: usize,
    free: usize,
    power: Option<usize>,
    express: Option<usize>,
    messages: Option<(Messages, usize, u16)>,
}

impl Config {
    pub fn new(identity: Identity) -> Self {
        let mut config = Self {
            bytes: vec![0; SIZE],
            writable: vec![0; SIZE],
            initial: Vec::new(),
            link: CAPABILITIES,
            free: FIRST_CAPABILITY,
            power: None,
            express: None,
            messages: None,
        };
        config.set16(0x00, identity.vendor);
        config.set16(0x02, identity.device);
        config.allow16(COMMAND, COMMAND_WRITABLE);
        config.set16(STATUS, STATUS_CAPABILITIES);
        config.set32(0x08, (identity.class << 8) | u32::from(identity.revision));
        // Cache line size and interrupt line are the host's to note things in.
        config.writable[0x0c] = 0xff;
        config.writable[0x3c] = 0xff;
        config.set16(0x2c, identity.subsystem.0);
        config.set16(0x2e, identity.subsystem.1);
        config
    }

    /// Gives it a BAR of `size` bytes, a power of two of at least 16.
    pub fn bar(mut self, index: usize, size: u64, width: Width) -> Self {
        assert!(index < BARS && size.is_power_of_two() && size >= 16);
        let at = BAR + 4 * index;
        let mask = !(size - 1);
        self.allow16(at, mask as u16);
        self.allow16(at + 2, (mask >> 16) as u16);
        if width == Width::Bits64 {
            assert!(index + 1 < BARS);
            self.bytes[at] = BAR_64 | BAR_PREFETCHABLE;
            self.allow16(at + 4, (mask >> 32) as u16);
            self.allow16(at + 6, (mask >> 48) as u16);
        }
        self
    }

    /// Power management with D0 and D3hot, losing its state on the way back.
    pub fn power_management(mut self) -> Self {
        let at = self.capability(PM, 8);
        self.set16(at + 2, 3); // version 1.2, no PME
        self.writable[at + PM_CONTROL] = PM_STATE;
        self.power = Some(at);
        self
    }

    /// A PCI Express endpoint with function-level reset, four lanes of 8 GT/s.
    pub fn express(mut self) -> Self {
        const CAN_FLR: u32 = 1 << 28;
        const ROLE_BASED_ERRORS: u32 = 1 << 15;
        const LINK: u16 = (4 << 4) | 3;
        let at = self.capability(EXPRESS, 60);
        self.set16(at + 2, 2); // version 2, endpoint
        self.set32(at + 4, CAN_FLR | ROLE_BASED_ERRORS);
        self.set16(at + DEVICE_CONTROL, 0x2810);
        self.allow16(at + DEVICE_CONTROL, 0x7fff);
        self.set32(at + 12, u32::from(LINK));
        self.allow16(at + 16, 0x0fdb);
        self.set16(at + 18, LINK);
        self.set32(at + 44, 0x0e); // speeds: 2.5, 5 and 8 GT/s
        self.set16(at + 48, 3); // target speed
        self.express = Some(at);
        self
    }

    /// `vectors` MSI-X messages, their table and pending bits in `bar`.
    pub fn msix(mut self, vectors: u16, bar: u8, table: u32, pending: u32) -> Self {
        let at = self.capability(MSIX, 12);
        self.set16(at + MESSAGE_CONTROL, vectors - 1);
        self.allow16(at + MESSAGE_CONTROL, MSIX_ENABLE | MSIX_MASK);
        self.set32(at + 4, table | u32::from(bar));
        self.set32(at + 8, pending | u32::from(bar));
        self.messages = Some((Messages::Msix, at, vectors));
        self
    }

    /// `vectors` MSI messages, a power of two up to 32, with 64-bit addresses.
    pub fn msi(mut self, vectors: u16) -> Self {
        assert!(vectors.is_power_of_two() && vectors <= 32);
        let at = self.capability(MSI, 14);
        let log2 = vectors.trailing_zeros() as u16;
        self.set16(at + MESSAGE_CONTROL, MSI_64 | (log2 << 1));
        self.allow16(at + MESSAGE_CONTROL, MSI_ENABLE | (7 << 4));
        for byte in at + 4..at + 14 {
            self.writable[byte] = 0xff;
        }
        self.writable[at + 4] = 0xfc;
        self.messages = Some((Messages::Msi, at, vectors));
        self
    }

    /// What it was built as is what a reset brings back.
    pub fn build(mut self) -> Self {
        self.initial = self.bytes.clone();
        self
    }

    /// How it interrupts.
    pub fn messages(&self) -> Option<(Messages, u16)> {
        self.messages.map(|(kind, _, vectors)| (kind, vectors))
    }

    fn capability(&mut self, id: u8, size: usize) -> usize {
        let at = self.free;
        self.bytes[self.link] = at as u8;
        self.bytes[at] = id;
        self.link = at + 1;
        self.free = (at + size).next_multiple_of(8);
        assert!(self.free <= 0x100);
        at
    }

    pub fn reset(&mut self) {
        self.bytes.clone_from(&self.initial);
    }

    /// What is not there reads as 0.
    pub fn read(&self, offset: u64, to: &mut [u8]) {
        for (address, byte) in (offset..).zip(to) {
            *byte = usize::try_from(address)
                .ok()
                .and_then(|address| self.bytes.get(address))
                .copied()
                .unwrap_or(0);
        }
    }

    /// Returns whether a function-level reset was asked for; doing it is the caller's.
    #[must_use]
    pub fn write(&mut self, offset: u64, from: &[u8]) -> bool {
        let state = self.power_state();
        let mut flr = false;
        for (address, &byte) in (offset..).zip(from) {
            let Some(address) = usize::try_from(address).ok().filter(|&at| at < SIZE) else {
                break;
            };
            let mask = self.writable[address];
            self.bytes[address] = (self.bytes[address] & !mask) | (byte & mask);
            let control = self.express.map(|at| at + DEVICE_CONTROL + 1);
            flr |= control == Some(address) && byte & FLR != 0;
        }
        // A state that the function does not have is not entered.
        if let Some(at) = self.power {
            if !matches!(self.power_state(), 0 | PM_D3HOT) {
                let control = &mut self.bytes[at + PM_CONTROL];
                *control = (*control & !PM_STATE) | state;
            }
        }
        flr
    }

    fn power_state(&self) -> u8 {
        self.power
            .map_or(0, |at| self.bytes[at + PM_CONTROL] & PM_STATE)
    }

    pub fn settings(&self) -> Settings {
        let vectors = self.messages.map_or(0, |(kind, at, most)| {
            let control = self.get16(at + MESSAGE_CONTROL);
            match kind {
                Messages::Msix if control & MSIX_ENABLE != 0 => most,
                Messages::Msi if control & MSI_ENABLE != 0 => {
                    most.min(1 << ((control >> 4) & 7).min(5))
                }
                _ => 0,
            }
        });
        Settings {
            bus_master: self.bytes[COMMAND] & COMMAND_BUS_MASTER != 0,
            d3hot: self.power_state() == PM_D3HOT,
            vectors,
        }
    }

    fn get16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    fn set16(&mut self, at: usize, value: u16) {
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn set32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn allow16(&mut self, at: usize, mask: u16) {
        self.writable[at..at + 2].copy_from_slice(&mask.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config(messages: Messages) -> Config {
        let config = Config::new(Identity {
            vendor: 0x1af4,
            device: 0x10f0,
            class: 0x12_0000,
            revision: 1,
            subsystem: (0x1af4, 1),
        })
        .bar(0, 1 << 20, Width::Bits32)
        .bar(2, 1 << 28, Width::Bits64)
        .power_management()
        .express();
        match messages {
            Messages::Msix => config.bar(4, 0x2000, Width::Bits32).msix(8, 4, 0, 0x1000),
            Messages::Msi => config.msi(8),
        }
        .build()
    }

    fn get32(config: &Config, at: usize) -> u32 {
        let mut bytes = [0; 4];
        config.read(at as u64, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn find(config: &Config, id: u8) -> Option<usize> {
        let mut at = get32(config, CAPABILITIES) as usize & 0xff;
        while at != 0 {
            if get32(config, at) as u8 == id {
                return Some(at);
            }
            at = (get32(config, at) >> 8) as usize & 0xff;
        }
        None
    }

    #[test]
    fn identity_and_capabilities() {
        let config = config(Messages::Msix);
        assert_eq!(get32(&config, 0), 0x10f0_1af4);
        assert_eq!(get32(&config, 8), 0x1200_0001);
        assert_eq!(get32(&config, 0x2c), 0x0001_1af4);
        let pm = find(&config, PM).expect("it has power management");
        assert_eq!(
            get32(&config, pm + PM_CONTROL) & (1 << 3),
            0,
            "No_Soft_Reset"
        );
        let express = find(&config, EXPRESS).expect("it is PCI Express");
        assert_ne!(get32(&config, express + 4) & (1 << 28), 0, "FLR");
        let msix = find(&config, MSIX).expect("it has MSI-X");
        assert_eq!(get32(&config, msix) >> 16, 7);
        assert_eq!(get32(&config, msix + 4), 4);
        assert_eq!(get32(&config, msix + 8), 0x1004);
        assert_eq!(find(&config, MSI), None);
        assert!(find(&super::tests::config(Messages::Msi), MSI).is_some());
    }

    #[test]
    fn bars_tell_their_size() {
        let mut config = config(Messages::Msix);
        for at in (BAR..BAR + 24).step_by(4) {
            assert!(!config.write(at as u64, &[0xff; 4]));
        }
        let sizes: Vec<u32> = (0..6).map(|bar| get32(&config, BAR + 4 * bar)).collect();
        assert_eq!(
            sizes,
            [0xfff0_0000, 0, 0xf000_000c, 0xffff_ffff, 0xffff_e000, 0]
        );
    }

    #[test]
    fn settings_follow_writes() {
        let mut config = config(Messages::Msix);
        assert_eq!(config.settings(), Settings::default());
        let _ = config.write(COMMAND as u64, &[0x06, 0x00]);
        let msix = find(&config, MSIX).expect("it has MSI-X") as u64;
        let _ = config.write(msix + 2, &[0, 0x80]);
        let on = Settings {
            bus_master: true,
            d3hot: false,
            vectors: 8,
        };
        assert_eq!(config.settings(), on);
        let pm = find(&config, PM).expect("it has power management") as u64;
        for (state, d3hot) in [(3, true), (1, true), (0, false), (2, false), (3, true)] {
            let _ = config.write(pm + 4, &[state]);
            assert_eq!(config.settings().d3hot, d3hot, "{state}");
        }
        config.reset();
        assert_eq!(config.settings(), Settings::default());
    }

    #[test]
    fn msi_grants_what_was_enabled() {
        let mut config = config(Messages::Msi);
        let msi = find(&config, MSI).expect("it has MSI") as u64;
        for (control, vectors) in [(0x01, 1), (0x11, 2), (0x31, 8), (0x71, 8), (0x30, 0)] {
            let _ = config.write(msi + 2, &[control]);
            assert_eq!(config.settings().vectors, vectors, "{control:#x}");
        }
    }

    #[test]
    fn flr_is_asked_for_and_reads_as_0() {
        let mut config = config(Messages::Msix);
        let at = find(&config, EXPRESS).expect("it is PCI Express") + DEVICE_CONTROL;
        assert!(config.write(at as u64, &[0, 0x80]));
        assert_eq!(get32(&config, at) & 0x8000, 0);
        assert!(!config.write(at as u64, &[0, 0x7f]));
    }

    proptest! {
        /// Nothing changes but what is listed here, whatever is written where.
        #[test]
        fn only_listed_bits_change(
            writes in prop::collection::vec((0u64..SIZE as u64 + 8, prop::collection::vec(any::<u8>(), 1..=8)), 1..200),
        ) {
            let mut config = config(Messages::Msix);
            let before = config.bytes.clone();
            for (offset, bytes) in &writes {
                let _ = config.write(*offset, bytes);
            }
            let pm = find(&config, PM).expect("capabilities stay");
            let express = find(&config, EXPRESS).expect("capabilities stay");
            let msix = find(&config, MSIX).expect("capabilities stay");
            let mut may = vec![0u8; SIZE];
            may[0x04..0x06].copy_from_slice(&[0x46, 0x05]);
            may[0x0c] = 0xff;
            may[0x3c] = 0xff;
            may[0x12..0x14].copy_from_slice(&[0xf0, 0xff]);
            may[0x1b..0x20].copy_from_slice(&[0xf0, 0xff, 0xff, 0xff, 0xff]);
            may[0x21..0x24].copy_from_slice(&[0xe0, 0xff, 0xff]);
            may[pm + 4] = 3;
            may[express + 8..express + 10].copy_from_slice(&[0xff, 0x7f]);
            may[express + 16..express + 18].copy_from_slice(&[0xdb, 0x0f]);
            may[msix + 3] = 0xc0;
            for at in 0..SIZE {
                prop_assert_eq!((config.bytes[at] ^ before[at]) & !may[at], 0, "{:#x}", at);
            }
            config.reset();
            prop_assert_eq!(&config.bytes, &before);
        }
    }
}
