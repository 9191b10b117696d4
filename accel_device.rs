// SPDX-License-Identifier: GPL-2.0

//! The life of a device.
//!
//! ```text
//!        register (probe)                          the parent is unbound
//!             │                                              │
//!  data made ─┴─ interrupts ─ nodes ─── operational ─── close the gate, wake all who wait
//!                                                       end the lifecycle
//!                                                       nodes and attributes go
//!                                                       drain the gate
//!                                                       unmap what user space has mapped
//!                                                       close contexts
//!                                                       stop work, interrupts, DMA
//!                                                       drop the driver's data
//!                                                       end what DMA mappings are left
//!                                                            │
//!                                            open files hold what is left: ENODEV for ever
//! ```
//!
//! Unregistering takes no longer than the longest operation inside the gate, whatever user space
//! does: inside nothing waits for user memory or without limit, and waiters sleep outside. Waiters
//! are woken before nodes and attributes go, because removing those waits for who is in them.
//!
//! What a device does between, and what calls do when it does not compute, is in
//! `accel_lifecycle.rs`; how it sleeps, in `accel_power.rs`.
//!
//! What a [`Device`] holds after that is the core's alone: no pointer into the driver's module is
//! left, so that the module can go while files are open and memory is mapped. The number stays
//! taken until the last file is closed.

use crate::{
    attribute::Declared,
    bindings::{
        dma_map::DmaMappings,
        node::Inode,
        parent::{
            self,
            Hardware, //
        },
        slot::{
            MonitorKind,
            Slot, //
        },
        uapi,
        wait::{
            now_ns,
            WaitQueue, //
        }, //
    },
    event::{
        Events,
        What, //
    },
    file::{
        File,
        Node, //
    },
    ioctl::Layout,
    limits::{
        DeviceAccount,
        Limit, //
    },
    minor::{
        self,
        Nodes,
        Number, //
    },
    mm::{
        Buffer,
        HostUsage,
        Mappings, //
    },
    power::Power,
    state::{
        Cause,
        Change,
        State,
        StateMachine, //
    },
    sysfs, //
};
use kernel::{
    device,
    new_mutex,
    new_spinlock,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex,
        SpinLock,
        SpinLockGuard, //
    }, //
};

/// How long the gate is drained before the log says what holds it, in milliseconds.
const DRAIN_WARN_MS: usize = 5000;

/// What a device is for, `enum accel_class`.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Class {
    /// None of the others.
    Other = uapi::ACCEL_CLASS_OTHER,
    /// Neural networks.
    Npu = uapi::ACCEL_CLASS_NPU,
    /// Signal processing.
    Dsp = uapi::ACCEL_CLASS_DSP,
    /// Programmable logic.
    Fpga = uapi::ACCEL_CLASS_FPGA,
    /// Ciphers, hashes, compression.
    Crypto = uapi::ACCEL_CLASS_CRYPTO,
    /// No hardware.
    Virtual = uapi::ACCEL_CLASS_VIRTUAL,
}

/// Message-signalled interrupts (MSI or MSI-X) that a driver wants.
#[derive(Clone, Copy)]
pub struct Interrupts {
    /// Without as many the registration fails with `ENOSPC`. At least 1.
    pub min: u32,
    /// More are not asked for.
    pub max: u32,
}

/// What a driver says about all its devices.
#[derive(Clone, Copy)]
pub struct Description {
    /// The ioctls are those of `include/uapi/accel/NAME.h`. 1 to 31 bytes, ASCII.
    pub uapi_name: &'static str,
    /// Grows with incompatible changes of those ioctls.
    pub uapi_major: u32,
    /// Grows with compatible additions.
    pub uapi_minor: u32,
    /// What the devices are for.
    pub class: Class,
    /// Most compute files open at a time, one more is `EBUSY`; 0 for no limit of the device's.
    pub max_contexts: u32,
    /// Most address spaces of the device's own; 0 when it has none.
    pub max_address_spaces: u32,
    /// Bits of the addresses that the device can access by DMA; `None` when it does no DMA. On PCI it
    /// is a bus master either way, for its interrupts.
    pub dma_bits: Option<u32>,
    /// Interrupts that [`crate::Driver::interrupt`] handles.
    pub interrupts: Option<Interrupts>,
    /// Milliseconds between two calls of [`crate::Driver::check`]; 0 for none.
    pub check_ms: u32,
    /// Milliseconds without a call after which a device sleeps; 0 for never. If it is not 0 root can
    /// change it, in `power/autosuspend_delay_ms` of the parent. On PCI root has to allow it, in
    /// `power/control`.
    pub autosuspend_ms: u32,
}

impl Description {
    /// No DMA, no interrupts, no limits, and no name yet. For use with `..`.
    pub const DEFAULT: Self = Self {
        uapi_name: "",
        uapi_major: 1,
        uapi_minor: 0,
        class: Class::Other,
        max_contexts: 0,
        max_address_spaces: 0,
        dma_bits: None,
        interrupts: None,
        check_ms: 0,
        autosuspend_ms: 0,
    };
}

/// What probe says about one device.
#[derive(Clone, Copy, Default)]
pub struct Options {
    /// It shares its parent's function with others, as a partition.
    pub partition: bool,
    /// Bytes of the memory that is on the device, if there is any.
    pub memory: Option<u64>,
    /// Instead of [`Description::autosuspend_ms`].
    pub autosuspend_ms: Option<u32>,
    /// It takes one compute file at a time, whatever [`Description::max_contexts`] says.
    pub exclusive: bool,
}

/// What a driver's table says of what it can do.
pub(crate) struct Carries {
    pub(crate) ioctls: KVec<Layout>,
    /// Whether it can reset its devices.
    pub(crate) reset: bool,
    pub(crate) declared: Pin<KBox<Declared>>,
    /// Whether it puts them to sleep.
    pub(crate) suspend: bool,
}

/// A device, from registration until nothing refers to it any more.
#[pin_data]
pub(crate) struct Device {
    identity: uapi::accel_info_identity,
    registered_ns: i64,
    #[pin]
    state: SpinLock<StateMachine>,
    /// Where those wait who cannot go on in the present state.
    #[pin]
    changed: WaitQueue,
    /// Whether the driver can reset it.
    can_reset: bool,
    check_ms: u32,
    power: Power,
    memory: Option<u64>,
    account: Arc<DeviceAccount>,
    /// Vectors that the parent got.
    interrupts: u32,
    host: Arc<HostUsage>,
    ioctls: KVec<Layout>,
    /// Files opened so far, of each node.
    opened: [Atomic<u64>; 2],
    declared: Pin<KBox<Declared>>,
    clients: Atomic<u64>,
    mappings: Arc<Mappings>,
    #[pin]
    slot: Slot,
    /// Files that are open. Each knows its position.
    #[pin]
    files: Mutex<KVVec<Arc<File>>>,
    /// Held while one gets its objects, of which it then has not two.
    #[pin]
    making: Mutex<()>,
    #[pin]
    nodes: Mutex<Option<Nodes>>,
    #[pin]
    hardware: Mutex<Option<Hardware>>,
    /// Whether the parent was kept from accessing memory, and is to stay so.
    dma_stopped: Atomic<bool>,
    dma_mappings: Arc<DmaMappings>,
    parent: ARef<device::Device>,
    /// Given back last.
    number: Number,
}

impl Device {
    pub(crate) fn new(
        dev: &device::Device,
        about: &Description,
        options: Options,
        carries: Carries,
        hardware: Hardware,
        slot: impl PinInit<Slot, Error>,
    ) -> Result<Arc<Self>> {
        let number = Number::take()?;
        let mut identity = parent::identity(dev);

        identity.number = number.get();
        identity.function_index = minor::siblings(dev);
        if options.partition {
            identity.function = uapi::ACCEL_FUNCTION_PARTITION;
        }
        identity.device_class = about.class as u32;
        identity.uapi_major = about.uapi_major;
        identity.uapi_minor = about.uapi_minor;
        identity.max_contexts = if options.exclusive {
            1
        } else {
            about.max_contexts
        };
        identity.max_address_spaces = about.max_address_spaces;
        copy_name(&mut identity.uapi_name, about.uapi_name);

        let autosuspend_ms = match carries.suspend {
            true => options.autosuspend_ms.unwrap_or(about.autosuspend_ms),
            false => 0,
        };
        let now_ns = now_ns();
        let device = Arc::pin_init(
            try_pin_init!(Self {
                identity,
                registered_ns: now_ns,
                state <- new_spinlock!(StateMachine::new(now_ns)?, "accel_state"),
                changed <- WaitQueue::new(),
                can_reset: carries.reset,
                check_ms: about.check_ms,
                power: Power::new(autosuspend_ms),
                memory: options.memory,
                account: DeviceAccount::new(identity.max_contexts)?,
                interrupts: hardware.vectors(),
                host: Arc::new(HostUsage::new(), GFP_KERNEL)?,
                ioctls: carries.ioctls,
                opened: [Atomic::new(0), Atomic::new(0)],
                declared: carries.declared,
                clients: Atomic::new(0),
                mappings: Mappings::new()?,
                slot <- slot,
                files <- new_mutex!(KVVec::new(), "accel_files"),
                making <- new_mutex!((), "accel_objects"),
                nodes <- new_mutex!(None, "accel_nodes"),
                hardware <- new_mutex!(Some(hardware), "accel_hardware"),
                dma_stopped: Atomic::new(false),
                dma_mappings: DmaMappings::new(dev)?,
                parent: dev.into(),
                number,
            }? Error),
            GFP_KERNEL,
        )?;
        Ok(device)
    }

    /// Lets the device access memory.
    pub(crate) fn start_dma(&self) {
        // A reset that is in progress while the system goes down.
        if !self.power.allows_reset() {
            return;
        }
        self.dma_stopped.store(false, Relaxed);
        if let Some(hardware) = &*self.hardware.lock() {
            hardware.start_dma();
        }
    }

    /// Lets the device interrupt.
    pub(crate) fn request_interrupts(&self) -> Result {
        match &*self.hardware.lock() {
            Some(hardware) => hardware.request_interrupts(self),
            None => Ok(()),
        }
    }

    /// Makes the nodes: user space can use the device from here on.
    pub(crate) fn publish(self: &Arc<Self>, dev: &device::Device) -> Result {
        let nodes = minor::publish(self)?;

        *self.nodes.lock() = Some(nodes);
        // One that was told before they were there.
        let told = self.machine().last_told();

        if told.cause != Cause::None {
            sysfs::tell_uevent(self, &told);
        }
        self.check_later();
        self.rest_later();
        dev_info!(
            dev,
            "accelerator registered as accel{}\n",
            self.identity.number
        );
        Ok(())
    }

    /// Ends all that the driver has given, in the order that the module's text says.
    pub(crate) fn unregister(&self) {
        let Some(closing) = self.slot.close() else {
            return;
        };

        self.changed.wake_all();
        self.wake_all();
        self.wake_for_end();
        // A reset that is in progress ends here.
        let ending = closing.end_lifecycle(|| {
            let _ = self.change(State::Unplugged, Cause::Unplug);
            self.tell_changes();
        });
        minor::unpublish(self);
        let nodes = self.nodes.lock().take();
        drop(nodes);

        let drained = ending.drain(DRAIN_WARN_MS, |name, count| {
            dev_warn!(
                self.parent,
                "accel{}: unregister waits for {} in '{}'\n",
                self.identity.number,
                count,
                name
            );
        });

        self.mappings.end(self.account.used(Limit::Mappings));
        // Nobody adds a file any more, and none is released from here on but by its last reference.
        let files = core::mem::take(&mut *self.files.lock());
        for file in &files {
            drained.close(file);
            file.signal_all();
        }
        drained.stop_callbacks();
        let hardware = self.hardware.lock().take();
        if let (Some(hardware), 0) = (&hardware, minor::siblings(&self.parent)) {
            hardware.stop_dma();
        }
        drained.end();
        // Those that the driver has not dropped with its data.
        self.dma_mappings.end();
        drop(hardware);
        // Not before the driver is gone: a file's last reference may be among these.
        drop(files);
    }

    fn wake_all(&self) {
        for file in self.files.lock().iter() {
            file.wake();
        }
    }

    /// Tells the files that want it of the next change of the state, and returns it. Who subscribes
    /// meanwhile begins with it or with the one before.
    pub(crate) fn tell_next(&self) -> Option<Change> {
        let files = self.files.lock();
        let (change, resets) = {
            let mut machine = self.machine();

            (machine.next_untold()?, machine.resets_total())
        };
        let what = What::State { change, resets };

        for file in files.iter() {
            if change.to != State::Unplugged {
                file.watch().tell(change.at_ns, what);
            } else if let Some(events) = file.events() {
                events.end(file.account(), change.at_ns, what);
                file.wake();
            }
        }
        Some(change)
    }

    /// Has `file` told events of `types` from now on. Returns those that it was told before.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `ENODEV` when the device is gone.
    pub(crate) fn subscribe(&self, file: &File, types: u64) -> Result<u64> {
        // Outside: who is short of memory may be made to wait for it as long as its cgroup likes.
        let mut spare = match file.events() {
            None if types != 0 => Some(Events::new()?),
            _ => None,
        };
        let _monitor = self.slot.monitor(MonitorKind::COMMON)?;
        let files = self.files.lock();
        let (change, resets) = {
            let machine = self.machine();

            (machine.last_told(), machine.resets_total())
        };

        if change.to == State::Unplugged {
            return Err(ENODEV);
        }
        if let Some(events) = spare.take() {
            // Another thread of the same user may have been faster.
            spare = file.watch().set_events(events);
        }
        let state = (change.at_ns, What::State { change, resets });
        let lost = file
            .context_lost()
            .map(|lost| (lost.at_ns, What::ContextLost(lost.cause)));
        let before = file.events().map_or(0, |events| {
            events.want(
                file.account(),
                types,
                [Some(state), lost].into_iter().flatten(),
            )
        });

        drop(files);
        drop(spare);
        // Pollers, of the present state; readers, also of the end of a subscription.
        file.wake();
        Ok(before)
    }

    /// A number for a file, from 1.
    pub(crate) fn next_client(&self) -> u64 {
        self.clients.fetch_add(1, Relaxed) + 1
    }

    /// Calls `f` with each file that is open, until it fails. Nobody opens or closes one meanwhile.
    pub(crate) fn try_for_each_file(&self, f: impl FnMut(&Arc<File>) -> Result) -> Result {
        self.files.lock().iter().try_for_each(f)
    }

    /// Adds a file that has been opened.
    pub(crate) fn add_file(&self, file: &Arc<File>) -> Result {
        let mut files = self.files.lock();

        file.set_position(files.len());
        files.push(file.clone(), GFP_KERNEL)?;
        drop(files);
        self.opened(file.node()).fetch_add(1, Relaxed);
        Ok(())
    }

    /// Removes a file that is being released, with a guard held.
    pub(crate) fn remove_file(&self, file: &File) {
        let removed = {
            let mut files = self.files.lock();
            let position = file.position();
            let last = files.pop();

            // The last one takes the place of the one that goes.
            match (last, files.get_mut(position)) {
                (Some(last), Some(place)) => {
                    last.set_position(position);
                    Some(core::mem::replace(place, last))
                }
                (last, _) => last,
            }
        };

        drop(removed);
    }

    /// Makes a buffer, which is counted as the device's host memory.
    pub(crate) fn new_buffer(&self, size: u64) -> Result<Arc<Buffer>> {
        Buffer::new(size, &self.host, || self.slot.is_closing())
    }

    /// The state and how it came to be. [`Device::change`] changes it.
    pub(crate) fn machine(&self) -> SpinLockGuard<'_, StateMachine> {
        self.state.lock()
    }

    /// Where those wait who cannot go on in the present state.
    pub(crate) fn changed(&self) -> &WaitQueue {
        &self.changed
    }

    /// The attributes that the driver has declared.
    pub(crate) fn declared(&self) -> &Declared {
        &self.declared
    }

    /// Has programs that listen for uevents told of a change.
    pub(crate) fn tell_uevent(&self, variables: &[&CStr]) {
        if let Some(nodes) = &*self.nodes.lock() {
            nodes.changed(variables);
        }
    }

    /// Whether the driver can reset it.
    pub(crate) fn can_reset(&self) -> bool {
        self.can_reset
    }

    /// How it sleeps.
    pub(crate) fn power(&self) -> &Power {
        &self.power
    }

    /// Milliseconds between two checks; 0 for none.
    pub(crate) fn check_ms(&self) -> u32 {
        self.check_ms
    }

    /// How many interrupt vectors the parent got.
    pub(crate) fn interrupts(&self) -> u32 {
        self.interrupts
    }

    /// Keeps the parent from accessing memory.
    ///
    /// Without the lock of `hardware`: an interrupt's thread may call this while interrupts are
    /// requested.
    pub(crate) fn stop_dma(&self) {
        self.dma_stopped.store(true, Relaxed);
        parent::stop_dma(&self.parent);
    }

    /// As [`Self::stop_dma`], if that was done last: the bus has restored what it knew before.
    pub(crate) fn keep_dma_stopped(&self) {
        if self.dma_stopped.load(Relaxed) {
            parent::stop_dma(&self.parent);
        }
    }

    pub(crate) fn dma_mappings(&self) -> &Arc<DmaMappings> {
        &self.dma_mappings
    }

    /// N of accelN.
    pub(crate) fn number(&self) -> u32 {
        self.identity.number
    }

    pub(crate) fn number_taken(&self) -> &Number {
        &self.number
    }

    /// The device that this is on. Perhaps not bound any more.
    pub(crate) fn parent(&self) -> &device::Device {
        &self.parent
    }

    #[inline]
    pub(crate) fn slot(&self) -> &Slot {
        &self.slot
    }

    pub(crate) fn inode(&self) -> &Inode {
        self.mappings.inode()
    }

    /// What the driver's ioctls carry.
    #[inline]
    pub(crate) fn ioctls(&self) -> &[Layout] {
        &self.ioctls
    }

    pub(crate) fn identity(&self) -> &uapi::accel_info_identity {
        &self.identity
    }

    /// `CLOCK_MONOTONIC` of the registration, in nanoseconds.
    pub(crate) fn registered_ns(&self) -> i64 {
        self.registered_ns
    }

    /// Bytes of the memory on the device.
    pub(crate) fn memory(&self) -> Option<u64> {
        self.memory
    }

    pub(crate) fn host(&self) -> &HostUsage {
        &self.host
    }

    fn opened(&self, node: Node) -> &Atomic<u64> {
        let [compute, control] = &self.opened;

        match node {
            Node::Compute => compute,
            Node::Control => control,
        }
    }

    /// Opens of `node` that have succeeded so far.
    pub(crate) fn opens_total(&self, node: Node) -> u64 {
        self.opened(node).load(Relaxed)
    }

    /// Files of `node` that are open now.
    pub(crate) fn opens_now(&self, node: Node) -> u32 {
        let files = self.account.used(Limit::Files);
        let contexts = self.account.used(Limit::Contexts);

        match node {
            Node::Compute => contexts,
            // One may have been opened between the two.
            Node::Control => files.saturating_sub(contexts),
        }
    }

    /// Taken to give a file its objects.
    pub(crate) fn making(&self) -> &Mutex<()> {
        &self.making
    }

    /// What its files have.
    pub(crate) fn account(&self) -> &Arc<DeviceAccount> {
        &self.account
    }

    /// Calls `tell` with the `index`-th compute file that is open, in no particular order.
    pub(crate) fn with_client<T>(&self, index: usize, tell: impl FnOnce(&File) -> T) -> Option<T> {
        let files = self.files.lock();
        let mut clients = files.iter().filter(|file| file.node() == Node::Compute);

        clients.nth(index).map(|file| tell(file))
    }
}

/// Copies as much of `name` as leaves room for a NUL.
fn copy_name<const N: usize>(to: &mut [kernel::ffi::c_char; N], name: &str) {
    for (to, from) in to.iter_mut().take(N - 1).zip(name.bytes()) {
        *to = from as kernel::ffi::c_char;
    }
}
