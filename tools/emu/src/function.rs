// SPDX-License-Identifier: GPL-2.0
//! A PCI function: configuration space in front of a device. What the configuration forbids, the
//! device cannot do: the bus that it is given is behind a gate here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::control::{Console, Reply};
use crate::pci::{Config, SIZE, Settings};
use crate::transport::{BARS, Bus, BusError, Device, Endpoint, Messages, Region, Reset};

/// The bus as far as the configuration lets the device use it.
pub struct Gate {
    bus: Arc<dyn Bus>,
    /// Held for reading by every access, so that who changes it has waited for all of them.
    settings: RwLock<Settings>,
}

impl Gate {
    pub fn new(bus: Arc<dyn Bus>) -> Self {
        Self {
            bus,
            settings: RwLock::default(),
        }
    }

    fn pass<T>(
        &self,
        address: u64,
        access: impl FnOnce(&dyn Bus) -> Result<T, BusError>,
    ) -> Result<T, BusError> {
        let settings = self.settings.read();
        if !settings.bus_master || settings.d3hot {
            return Err(BusError { address });
        }
        access(&*self.bus)
    }

    /// From here on the device obeys `settings`, all of it.
    fn set(&self, settings: Settings) {
        // Read first: nothing waits for anything where nothing changes.
        if *self.settings.read() != settings {
            *self.settings.write() = settings;
        }
    }
}

impl Bus for Gate {
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), BusError> {
        self.pass(address, |bus| bus.read(address, to))
    }

    fn write(&self, address: u64, from: &[u8]) -> Result<(), BusError> {
        self.pass(address, |bus| bus.write(address, from))
    }

    fn load(&self, address: u64) -> Result<u32, BusError> {
        self.pass(address, |bus| bus.load(address))
    }

    fn store(&self, address: u64, value: u32) -> Result<(), BusError> {
        self.pass(address, |bus| bus.store(address, value))
    }

    fn interrupt(&self, vector: u16) {
        let settings = self.settings.read();
        if settings.bus_master && !settings.d3hot && settings.vectors > 0 {
            self.bus.interrupt(vector % settings.vectors);
        }
    }
}

/// The BAR that has the MSI-X table, and where the pending bits are in it.
///
/// The host keeps the real table where the device is connected; this keeps what is written all the
/// same.
pub struct Table {
    bar: usize,
    pending: usize,
    bytes: Mutex<Vec<u8>>,
}

impl Table {
    /// For `vectors` messages; all masked, as after a reset.
    pub fn new(bar: usize, size: usize, vectors: usize, pending: usize) -> Self {
        let table = Self {
            bar,
            pending,
            bytes: Mutex::new(vec![0; size]),
        };
        for entry in table.bytes.lock().chunks_exact_mut(16).take(vectors) {
            entry[12] = 1;
        }
        table
    }

    fn read(&self, offset: u64, to: &mut [u8]) {
        to.fill(0);
        let bytes = self.bytes.lock();
        let from = usize::try_from(offset)
            .ok()
            .and_then(|offset| bytes.get(offset..offset.checked_add(to.len())?));
        if let Some(from) = from {
            to.copy_from_slice(from);
        }
    }

    fn write(&self, offset: u64, from: &[u8]) {
        let mut bytes = self.bytes.lock();
        let to = usize::try_from(offset)
            .ok()
            .and_then(|offset| Some((offset, offset.checked_add(from.len())?)))
            .filter(|&(_, end)| end <= self.pending)
            .and_then(|(start, end)| bytes.get_mut(start..end));
        if let Some(to) = to {
            to.copy_from_slice(from);
        }
    }
}

/// A device behind a configuration space.
pub struct Function<D> {
    config: Mutex<Config>,
    messages: (Messages, u16),
    bars: [Option<Region>; BARS],
    table: Option<Table>,
    gate: Arc<Gate>,
    /// D3hot, for the path of every access.
    asleep: AtomicBool,
    /// It is not in its slot any more.
    gone: AtomicBool,
    device: Arc<D>,
}

impl<D: Device> Function<D> {
    /// `gate` is the bus that `device` has.
    pub fn new(
        config: Config,
        bars: [Option<Region>; BARS],
        table: Option<Table>,
        gate: Arc<Gate>,
        device: Arc<D>,
    ) -> Self {
        Self {
            messages: config.messages().unwrap_or((Messages::Msi, 0)),
            config: Mutex::new(config),
            bars,
            table,
            gate,
            asleep: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            device,
        }
    }

    fn apply(&self, settings: Settings) {
        self.gate.set(settings);
        self.asleep.store(settings.d3hot, Ordering::Release);
    }

    fn table(&self, bar: usize) -> Option<&Table> {
        self.table.as_ref().filter(|table| table.bar == bar)
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

impl<D: Device> Function<D> {
    /// As if it were pulled out of its slot: nobody answers, which hosts read as all ones, and
    /// nothing comes from it. Until a new host finds one that was just switched on.
    pub fn vanish(&self) {
        let _config = self.config.lock();
        log::info!("it is gone");
        self.gone.store(true, Ordering::Release);
        self.apply(Settings::default());
        self.device.sleep();
    }
}

/// What can be told to a function, and to the device behind it.
impl<D: Device + Console> Console for Function<D> {
    fn say(&self, line: &str) -> Reply {
        if line != "vanish" {
            return self.device.say(line);
        }
        self.vanish();
        Reply::Line("ok".to_owned())
    }
}

impl<D: Device> Endpoint for Function<D> {
    fn bars(&self) -> &[Option<Region>; BARS] {
        &self.bars
    }

    fn config_size(&self) -> u64 {
        SIZE as u64
    }

    fn messages(&self) -> (Messages, u16) {
        self.messages
    }

    fn config_read(&self, offset: u64, to: &mut [u8]) {
        let config = self.config.lock();
        if self.is_gone() {
            to.fill(0xff);
        } else {
            config.read(offset, to);
        }
    }

    fn config_write(&self, offset: u64, from: &[u8]) {
        let mut config = self.config.lock();
        if self.is_gone() {
            return;
        }
        let before = config.settings();
        let flr = config.write(offset, from);
        let woke = before.d3hot && !config.settings().d3hot;
        if flr || woke {
            log::info!("{}", if flr { "FLR" } else { "back to D0" });
            config.reset();
        }
        let settings = config.settings();
        self.apply(settings);
        if flr || woke {
            self.device.reset(Reset::Function);
        } else if settings.d3hot && !before.d3hot {
            log::info!("D3hot");
            self.device.sleep();
        }
    }

    fn bar_read(&self, bar: usize, offset: u64, to: &mut [u8]) {
        if self.is_gone() || self.asleep.load(Ordering::Acquire) {
            to.fill(0xff);
        } else if let Some(table) = self.table(bar) {
            table.read(offset, to);
        } else {
            self.device.read(bar, offset, to);
        }
    }

    fn bar_write(&self, bar: usize, offset: u64, from: &[u8]) {
        if self.is_gone() || self.asleep.load(Ordering::Acquire) {
            return;
        }
        match self.table(bar) {
            Some(table) => table.write(offset, from),
            None => self.device.write(bar, offset, from),
        }
    }

    fn reset(&self, how: Reset) {
        let mut config = self.config.lock();
        match how {
            Reset::PowerOn => self.gone.store(false, Ordering::Release),
            Reset::Function if self.is_gone() => return,
            Reset::Function => {}
        }
        config.reset();
        self.apply(config.settings());
        self.device.reset(how);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pci::{Identity, Width};
    use crate::transport::fake::{BASE, FakeBus};

    /// Remembers what was done to it.
    struct Probe {
        bus: Arc<Gate>,
        did: Mutex<Vec<&'static str>>,
    }

    impl Device for Probe {
        fn read(&self, _: usize, _: u64, to: &mut [u8]) {
            to.fill(0x11);
        }

        fn write(&self, _: usize, _: u64, _: &[u8]) {
            self.did.lock().push("write");
        }

        fn reset(&self, how: Reset) {
            self.did.lock().push(match how {
                Reset::PowerOn => "power on",
                Reset::Function => "reset",
            });
        }

        fn sleep(&self) {
            self.did.lock().push("sleep");
        }
    }

    impl Console for Probe {
        fn say(&self, line: &str) -> Reply {
            Reply::Line(format!("error {line}"))
        }
    }

    struct Fixture {
        host: Arc<FakeBus>,
        device: Arc<Probe>,
        function: Function<Probe>,
    }

    // In the order in which `Config` lays them out.
    const PM_CONTROL: u64 = 0x44;
    const DEVICE_CONTROL: u64 = 0x50;
    const MSIX_CONTROL: u64 = 0x8a;

    fn fixture() -> Fixture {
        let host = Arc::new(FakeBus::new(4096));
        let gate = Arc::new(Gate::new(host.clone()));
        let device = Arc::new(Probe {
            bus: gate.clone(),
            did: Mutex::default(),
        });
        let config = Config::new(Identity {
            vendor: 1,
            device: 2,
            class: 3,
            revision: 4,
            subsystem: (5, 6),
        })
        .bar(0, 4096, Width::Bits32)
        .bar(4, 8192, Width::Bits32)
        .power_management()
        .express()
        .msix(8, 4, 0, 4096)
        .build();
        let function = Function::new(
            config,
            [const { None }; BARS],
            Some(Table::new(4, 8192, 8, 4096)),
            gate,
            device.clone(),
        );
        Fixture {
            host,
            device,
            function,
        }
    }

    #[test]
    fn bus_master_gates_memory_and_interrupts() {
        let f = fixture();
        let bus = &f.device.bus;
        let refused = Err(BusError { address: BASE });
        assert_eq!(bus.write(BASE, &[1]), refused);
        assert_eq!(bus.load(BASE).map(|_| ()), refused);
        f.function.config_write(MSIX_CONTROL, &[0, 0x80]);
        bus.interrupt(1);
        assert_eq!(f.host.interrupts(1), 0);

        f.function.config_write(4, &[4]);
        assert_eq!(bus.write(BASE, &[1]), Ok(()));
        assert_eq!(bus.load(BASE), Ok(1));
        assert_eq!(bus.store(BASE, 2), Ok(()));
        assert_eq!(f.host.u32(BASE), 2);
        bus.interrupt(1);
        assert_eq!(f.host.interrupts(1), 1);

        f.function.config_write(MSIX_CONTROL, &[0, 0]);
        bus.interrupt(1);
        assert_eq!(f.host.interrupts(1), 1);
        f.function.config_write(4, &[0]);
        assert_eq!(bus.read(BASE, &mut [0]), refused);
        assert_eq!(bus.store(BASE, 3), refused);
    }

    #[test]
    fn d3hot_answers_configuration_only() {
        let f = fixture();
        f.function.config_write(4, &[4]);
        f.function.config_write(PM_CONTROL, &[3]);
        let mut bytes = [0; 4];
        f.function.bar_read(0, 0, &mut bytes);
        assert_eq!(bytes, [0xff; 4]);
        f.function.bar_read(4, 0, &mut bytes);
        assert_eq!(bytes, [0xff; 4]);
        f.function.bar_write(0, 0, &bytes);
        assert!(f.device.bus.write(BASE, &[1]).is_err());
        f.function.config_read(0, &mut bytes);
        assert_eq!(bytes, [1, 0, 2, 0]);
        f.function.config_write(PM_CONTROL, &[0]);
        assert_eq!(*f.device.did.lock(), ["sleep", "reset"]);
        f.function.bar_read(0, 0, &mut bytes);
        assert_eq!(bytes, [0x11; 4]);
        // No_Soft_Reset is 0: the way back has cleared it.
        assert!(f.device.bus.write(BASE, &[1]).is_err());
    }

    #[test]
    fn flr_resets_device_and_configuration() {
        let f = fixture();
        f.function.config_write(4, &[6]);
        f.function.config_write(DEVICE_CONTROL, &[0, 0x80]);
        assert_eq!(*f.device.did.lock(), ["reset"]);
        let mut bytes = [0; 2];
        f.function.config_read(4, &mut bytes);
        assert_eq!(bytes, [0; 2]);
        // Also out of D3hot, once.
        f.function.config_write(PM_CONTROL, &[3]);
        f.function.config_write(DEVICE_CONTROL, &[0, 0x80]);
        f.function.reset(Reset::PowerOn);
        assert_eq!(
            *f.device.did.lock(),
            ["reset", "sleep", "reset", "power on"]
        );
        f.function.bar_write(0, 0, &bytes);
        assert_eq!(f.device.did.lock().last(), Some(&"write"));
    }

    #[test]
    fn what_vanished_answers_nothing_until_there_is_a_new_host() {
        let f = fixture();
        f.function.config_write(MSIX_CONTROL, &[0, 0x80]);
        f.function.config_write(4, &[6]);
        assert_eq!(
            f.function.say("vanish"),
            Reply::Line("ok".to_owned()),
            "the device itself does not know it"
        );
        let mut bytes = [0; 4];
        f.function.config_read(0, &mut bytes);
        assert_eq!(bytes, [0xff; 4]);
        for bar in [0, 4] {
            bytes = [0; 4];
            f.function.bar_read(bar, 0, &mut bytes);
            assert_eq!(bytes, [0xff; 4]);
        }
        // Nothing that is said to it is heard, a reset neither.
        f.function.bar_write(0, 0, &bytes);
        f.function.config_write(4, &[6]);
        f.function.config_write(DEVICE_CONTROL, &[0, 0x80]);
        f.function.reset(Reset::Function);
        assert_eq!(*f.device.did.lock(), ["sleep"]);
        assert!(f.device.bus.write(BASE, &[1]).is_err());
        f.device.bus.interrupt(0);
        assert_eq!(f.host.interrupts(0), 0);
        f.function.reset(Reset::PowerOn);
        assert_eq!(*f.device.did.lock(), ["sleep", "power on"]);
        f.function.config_read(0, &mut bytes);
        assert_eq!(bytes, [1, 0, 2, 0]);
        f.function.bar_read(0, 0, &mut bytes);
        assert_eq!(bytes, [0x11; 4]);
    }

    #[test]
    fn the_table_keeps_what_is_written() {
        let f = fixture();
        let mut bytes = [9; 4];
        f.function.bar_read(4, 12, &mut bytes);
        assert_eq!(bytes, [1, 0, 0, 0], "masked");
        f.function.bar_write(4, 16, &[1, 2, 3, 4]);
        f.function.bar_read(4, 16, &mut bytes);
        assert_eq!(bytes, [1, 2, 3, 4]);
        f.function.bar_write(4, 4096, &[1, 2, 3, 4]);
        f.function.bar_read(4, 4096, &mut bytes);
        assert_eq!(bytes, [0; 4], "pending bits are read only");
        for offset in [8190, 8192, u64::MAX] {
            f.function.bar_write(4, offset, &[1; 4]);
            f.function.bar_read(4, offset, &mut bytes);
            assert_eq!(bytes, [0; 4]);
        }
    }
}
