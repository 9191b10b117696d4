// SPDX-License-Identifier: GPL-2.0
//! The transport to QEMU: vfio-user, a protocol in which QEMU sends the guest's accesses as
//! messages, the guest's memory as files to map, and interrupts as eventfds to write.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parking_lot::{Mutex, RwLock};
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_MSI_IRQ_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS, VFIO_REGION_INFO_FLAG_MMAP,
    VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE, vfio_region_info,
    vfio_region_sparse_mmap_area,
};
use vfio_user::{
    DmaMapFlags, DmaUnmapFlags, IrqInfo, Server, ServerBackend, ServerRegion, SparseArea,
};

use crate::memory::Mapping;
use crate::transport::{BARS, Bus, BusError, Endpoint, Messages, Reset};

/// How long sending an answer takes, and how long to wait for a moment without.
const ANSWER: Duration = Duration::from_micros(200);
const LONGEST: Duration = Duration::from_millis(100);

/// The host as QEMU shows it to us.
#[derive(Default)]
pub struct Host {
    /// By host address. Held for reading by every access, so that who unmaps has waited for all.
    regions: RwLock<BTreeMap<u64, Mapping>>,
    wires: Mutex<Wires>,
    /// Whether a message of QEMU's is being answered, and since when it is so or not.
    answering: Mutex<Option<(bool, Instant)>>,
}

/// Where interrupts go.
#[derive(Default)]
struct Wires {
    /// By vector.
    eventfds: BTreeMap<u32, File>,
    /// What was sent while QEMU had taken the eventfd away, as it does to change the others.
    pending: BTreeSet<u32>,
}

impl Host {
    pub fn new() -> Self {
        Self::default()
    }

    fn map(&self, address: u64, mapping: Mapping) -> io::Result<()> {
        let last = address
            .checked_add(mapping.size() - 1)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let mut regions = self.regions.write();
        // What begins before our end must end before our beginning.
        let before = regions.range(..=last).next_back();
        if before.is_some_and(|(start, region)| start + (region.size() - 1) >= address) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        regions.insert(address, mapping);
        Ok(())
    }

    /// Returns when nothing accesses the range any more. QEMU unmaps what it has mapped, whole.
    fn unmap(&self, address: u64, size: u64) {
        let last = address.saturating_add(size.saturating_sub(1));
        let mut regions = self.regions.write();
        regions.retain(|&start, region| start > last || start + (region.size() - 1) < address);
    }

    fn forget(&self) {
        self.regions.write().clear();
        *self.wires.lock() = Wires::default();
    }

    fn wire(&self, vector: u32, eventfd: File) {
        let mut wires = self.wires.lock();
        if wires.pending.remove(&vector) {
            signal(vector, &eventfd);
        }
        wires.eventfds.insert(vector, eventfd);
    }

    /// Returns when no message of QEMU's is being answered, as far as can be seen; at the latest
    /// after a while. QEMU, and with it the guest, would wait for an answer that never comes.
    pub fn wait_until_quiet(&self) {
        let end = Instant::now() + LONGEST;
        while Instant::now() < end {
            match *self.answering.lock() {
                // The answer is sent after we are asked: give it the time.
                Some((answering, since)) if answering || since.elapsed() < ANSWER => {}
                _ => return,
            }
            thread::sleep(ANSWER / 4);
        }
    }

    /// Notes that a message is being answered, as long as the result lives.
    fn answer(self: &Arc<Self>) -> Answering {
        *self.answering.lock() = Some((true, Instant::now()));
        Answering(self.clone())
    }

    /// Calls `access` with each part of the range: where it is in which mapping, and in the range.
    fn access(
        &self,
        address: u64,
        size: usize,
        mut access: impl FnMut(&Mapping, u64, std::ops::Range<usize>) -> bool,
    ) -> Result<(), BusError> {
        let regions = self.regions.read();
        let mut done = 0;
        while done < size {
            let here = address.wrapping_add(done as u64);
            let error = BusError { address: here };
            // An address beyond the last is not one: do not go round.
            if here < address {
                return Err(error);
            }
            let (start, region) = regions.range(..=here).next_back().ok_or(error)?;
            let offset = here - start;
            let left = region.size().checked_sub(offset).filter(|&left| left > 0);
            let left = usize::try_from(left.ok_or(error)?).map_err(|_| error)?;
            let end = size.min(done.saturating_add(left));
            if !access(region, offset, done..end) {
                return Err(error);
            }
            done = end;
        }
        Ok(())
    }
}

/// A message that is being answered.
struct Answering(Arc<Host>);

impl Drop for Answering {
    fn drop(&mut self) {
        *self.0.answering.lock() = Some((false, Instant::now()));
    }
}

impl Bus for Host {
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), BusError> {
        self.access(address, to.len(), |region, offset, range| {
            region.read(offset, &mut to[range]).is_ok()
        })
    }

    fn write(&self, address: u64, from: &[u8]) -> Result<(), BusError> {
        self.access(address, from.len(), |region, offset, range| {
            region.write(offset, &from[range]).is_ok()
        })
    }

    fn load(&self, address: u64) -> Result<u32, BusError> {
        let mut value = 0;
        self.access(address, 4, |region, offset, range| {
            let word = region.load_u32(offset);
            value = word.unwrap_or(0);
            range.len() == 4 && word.is_ok()
        })?;
        Ok(value)
    }

    fn store(&self, address: u64, value: u32) -> Result<(), BusError> {
        self.access(address, 4, |region, offset, range| {
            range.len() == 4 && region.store_u32(offset, value).is_ok()
        })
    }

    fn interrupt(&self, vector: u16) {
        let mut wires = self.wires.lock();
        let vector = u32::from(vector);
        match wires.eventfds.get(&vector) {
            Some(eventfd) => signal(vector, eventfd),
            None => {
                wires.pending.insert(vector);
            }
        }
    }
}

fn signal(vector: u32, mut eventfd: &File) {
    if let Err(error) = eventfd.write_all(&1u64.to_ne_bytes()) {
        log::error!("vector {vector}: {error}");
    }
}

/// Serves `endpoint` at `socket` to one QEMU after the other.
pub struct Transport {
    server: Server,
    backend: Backend,
}

struct Backend {
    host: Arc<Host>,
    endpoint: Arc<dyn Endpoint>,
}

impl Transport {
    /// Listens at `socket`; what a former model left there is removed.
    pub fn listen(socket: &Path, host: Arc<Host>, endpoint: Arc<dyn Endpoint>) -> Result<Self> {
        remove_stale(socket)?;
        let server = Server::new(socket, true, irqs(&*endpoint), regions(&*endpoint))
            .with_context(|| format!("listening at {}", socket.display()))?;
        Ok(Self {
            server,
            backend: Backend { host, endpoint },
        })
    }

    /// Never returns but for an error of listening.
    pub fn run(mut self) -> vfio_user::Error {
        loop {
            let ended = self.server.run(&mut self.backend);
            // Who comes next has other memory, and finds a card that was just switched on.
            self.backend.host.forget();
            self.backend.endpoint.reset(Reset::PowerOn);
            match ended {
                Ok(()) => log::info!("QEMU has disconnected"),
                Err(error @ vfio_user::Error::SocketAccept(_)) => return error,
                Err(error) => log::warn!("the connection to QEMU ended: {error}"),
            }
        }
    }
}

/// Removes the socket that a process left at `path`, and nothing but a socket.
pub fn remove_stale(path: &Path) -> Result<()> {
    use std::os::unix::fs::FileTypeExt;
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {
            fs::remove_file(path).with_context(|| format!("removing {}", path.display()))
        }
        // Binding will say what is wrong.
        _ => Ok(()),
    }
}

fn regions(endpoint: &dyn Endpoint) -> Vec<ServerRegion> {
    (0..VFIO_PCI_NUM_REGIONS)
        .map(|index| {
            let mut info = vfio_region_info {
                argsz: size_of::<vfio_region_info>() as u32,
                index,
                ..Default::default()
            };
            let mut region = ServerRegion {
                region_info: info,
                sparse_areas: Vec::new(),
                mmap_fd: None,
            };
            let access = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
            if index == VFIO_PCI_CONFIG_REGION_INDEX {
                (info.size, info.flags) = (endpoint.config_size(), access);
            } else if let Some(Some(bar)) = endpoint.bars().get(index as usize) {
                (info.size, info.flags) = (bar.size, access);
                if let Some(file) = &bar.memory {
                    info.flags |= VFIO_REGION_INFO_FLAG_MMAP;
                    region.mmap_fd = Some(file.as_raw_fd());
                    // The file is sent only where areas are listed.
                    let area = vfio_region_sparse_mmap_area {
                        offset: 0,
                        size: bar.size,
                    };
                    region.sparse_areas.push(SparseArea { area });
                }
            }
            region.region_info = info;
            region
        })
        .collect()
}

fn irq_index(messages: Messages) -> u32 {
    match messages {
        Messages::Msi => VFIO_PCI_MSI_IRQ_INDEX,
        Messages::Msix => VFIO_PCI_MSIX_IRQ_INDEX,
    }
}

fn irqs(endpoint: &dyn Endpoint) -> Vec<IrqInfo> {
    let (messages, vectors) = endpoint.messages();
    (0..VFIO_PCI_NUM_IRQS)
        .map(|index| IrqInfo {
            index,
            flags: VFIO_IRQ_INFO_EVENTFD,
            count: if index == irq_index(messages) {
                u32::from(vectors)
            } else {
                0
            },
        })
        .collect()
}

impl ServerBackend for Backend {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        let _answering = self.host.answer();
        if region == VFIO_PCI_CONFIG_REGION_INDEX {
            self.endpoint.config_read(offset, data);
        } else if (region as usize) < BARS {
            for (piece, at) in data.chunks_mut(8).zip((offset..).step_by(8)) {
                self.endpoint.bar_read(region as usize, at, piece);
            }
        } else {
            data.fill(0xff);
        }
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        let _answering = self.host.answer();
        if region == VFIO_PCI_CONFIG_REGION_INDEX {
            self.endpoint.config_write(offset, data);
        } else if (region as usize) < BARS {
            for (piece, at) in data.chunks(8).zip((offset..).step_by(8)) {
                self.endpoint.bar_write(region as usize, at, piece);
            }
        }
        Ok(())
    }

    fn dma_map(
        &mut self,
        flags: DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        file: Option<File>,
    ) -> io::Result<()> {
        let _answering = self.host.answer();
        log::debug!("memory {address:#x}, {size:#x} bytes, {flags:?}");
        // Without a file it is no memory that we could share, such as a ROM: nobody answers there.
        let Some(file) = file else {
            return Ok(());
        };
        let mapping = Mapping::new(file, offset, size, flags.contains(DmaMapFlags::WRITE));
        mapping
            .and_then(|mapping| self.host.map(address, mapping))
            .inspect_err(|error| log::error!("memory {address:#x}, {size:#x} bytes: {error}"))
    }

    fn dma_unmap(&mut self, flags: DmaUnmapFlags, address: u64, size: u64) -> io::Result<()> {
        let _answering = self.host.answer();
        log::debug!("no memory {address:#x}, {size:#x} bytes, {flags:?}");
        if flags.contains(DmaUnmapFlags::UNMAP_ALL) {
            self.host.unmap(0, u64::MAX);
        } else if size > 0 {
            self.host.unmap(address, size);
        }
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        let _answering = self.host.answer();
        log::info!("the bus is reset");
        self.host.wires.lock().pending.clear();
        self.endpoint.reset(Reset::Function);
        Ok(())
    }

    fn set_irqs(
        &mut self,
        index: u32,
        flags: u32,
        start: u32,
        count: u32,
        fds: Vec<File>,
    ) -> io::Result<()> {
        let _answering = self.host.answer();
        let (messages, vectors) = self.endpoint.messages();
        let trigger = flags & VFIO_IRQ_SET_ACTION_TRIGGER != 0;
        if index != irq_index(messages) || !trigger {
            return Ok(());
        }
        let end = start.saturating_add(count).min(u32::from(vectors));
        if flags & VFIO_IRQ_SET_DATA_EVENTFD != 0 {
            let mut fds = fds.into_iter();
            for vector in start..end {
                match fds.next() {
                    Some(eventfd) => self.host.wire(vector, eventfd),
                    None => {
                        self.host.wires.lock().eventfds.remove(&vector);
                    }
                }
            }
        } else if flags & VFIO_IRQ_SET_DATA_NONE != 0 {
            if count == 0 {
                self.host.wires.lock().eventfds.clear();
            }
            for vector in start..end {
                self.host.interrupt(vector as u16);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
