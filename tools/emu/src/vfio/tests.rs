// SPDX-License-Identifier: GPL-2.0
//! The transport with a client of the same crate in QEMU's place.

use super::*;
use crate::transport::Region;
use std::io::Read;
use std::os::unix::net::UnixStream;

fn memory(size: u64) -> Mapping {
    Mapping::create("test", size).expect("memory can be made").0
}

#[test]
fn memory_is_found_across_regions() {
    let host = Host::new();
    host.map(0x1000, memory(0x1000)).expect("there is room");
    host.map(0x2000, memory(0x2000)).expect("there is room");
    for (address, size) in [(0x1000, 0x1000), (0, 0x1001), (0x3fff, 1), (0x800, 0x4000)] {
        assert!(host.map(address, memory(size)).is_err(), "{address:#x}");
    }
    assert!(host.map(u64::MAX - 10, memory(0x1000)).is_err());
    host.map(0u64.wrapping_sub(0x1000), memory(0x1000))
        .expect("there is room at the end");

    let data: Vec<u8> = (0..=255).collect();
    assert_eq!(host.write(0x1f80, &data), Ok(()));
    let mut back = [0; 256];
    assert_eq!(host.read(0x1f80, &mut back), Ok(()));
    assert_eq!(back[..], data[..]);
    assert_eq!(host.load(0x2000), Ok(0x8382_8180));
    assert_eq!(host.store(0x1ffc, 5), Ok(()));
    assert_eq!(host.load(0x1ffc), Ok(5));
    // Words do not lie across a page.
    assert_eq!(host.load(0x1ffe), Err(BusError { address: 0x1ffe }));
    // What is left out, what goes round.
    assert_eq!(host.write(0x3ff0, &data), Err(BusError { address: 0x4000 }));
    assert_eq!(host.read(0, &mut back), Err(BusError { address: 0 }));
    assert_eq!(
        host.read(u64::MAX - 7, &mut back),
        Err(BusError { address: 0 })
    );
    host.unmap(0x2000, 0x2000);
    assert_eq!(host.load(0x2000), Err(BusError { address: 0x2000 }));
    assert_eq!(host.load(0x1ffc), Ok(5));
    host.unmap(0, u64::MAX);
    assert_eq!(host.load(0x1ffc), Err(BusError { address: 0x1ffc }));
    assert!(host.regions.read().is_empty());
}

#[test]
fn memory_without_permission_to_write_is_not_written() {
    let host = Host::new();
    let (memory, file) = Mapping::create("test", 4096).expect("memory can be made");
    let readable = Mapping::new(file, 0, 4096, false).expect("it can be mapped");
    host.map(0, readable).expect("there is room");
    assert_eq!(host.write(8, &[1]), Err(BusError { address: 8 }));
    assert_eq!(host.store(8, 1), Err(BusError { address: 8 }));
    assert_eq!(host.load(8), Ok(0));
    assert_eq!(memory.load_u32(8), Ok(0));
}

/// The ends of something that takes the place of an eventfd.
fn eventfd() -> (File, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("sockets can be made");
    theirs.set_nonblocking(true).expect("that can be set");
    (File::from(std::os::fd::OwnedFd::from(ours)), theirs)
}

fn signals(end: &mut UnixStream) -> usize {
    let mut bytes = [0; 256];
    end.read(&mut bytes).unwrap_or(0) / 8
}

#[test]
fn interrupts_without_a_wire_wait_for_it() {
    let host = Host::new();
    let (file, mut end) = eventfd();
    host.interrupt(1);
    host.wire(0, eventfd().0);
    host.wire(1, file);
    assert_eq!(signals(&mut end), 1);
    host.interrupt(1);
    assert_eq!(signals(&mut end), 1);
    let (file, mut end) = eventfd();
    host.wire(1, file);
    assert_eq!(signals(&mut end), 0);
}

/// A function with memory at BAR 2 and 16 bytes of registers at BAR 0.
struct Simple {
    bars: [Option<Region>; BARS],
    registers: Mutex<[u8; 16]>,
    host: Arc<Host>,
    resets: Mutex<Vec<Reset>>,
}

impl Endpoint for Simple {
    fn bars(&self) -> &[Option<Region>; BARS] {
        &self.bars
    }

    fn config_size(&self) -> u64 {
        4096
    }

    fn messages(&self) -> (Messages, u16) {
        (Messages::Msix, 8)
    }

    fn config_read(&self, _: u64, to: &mut [u8]) {
        to.fill(0xc0);
    }

    fn config_write(&self, _: u64, _: &[u8]) {}

    fn bar_read(&self, _: usize, offset: u64, to: &mut [u8]) {
        let offset = offset as usize;
        to.copy_from_slice(&self.registers.lock()[offset..offset + to.len()]);
    }

    fn bar_write(&self, _: usize, offset: u64, from: &[u8]) {
        let offset = offset as usize;
        self.registers.lock()[offset..offset + from.len()].copy_from_slice(from);
        // Shows that host memory can be reached.
        let _ = self.host.write(0x1_0000, from);
    }

    fn reset(&self, how: Reset) {
        self.resets.lock().push(how);
    }
}

#[test]
fn a_client_is_served_and_the_next_one_too() {
    let folder = std::env::temp_dir().join(format!("accel-emu-vfio-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder can be made");
    let socket = folder.join("socket");
    // A socket that was left behind.
    drop(std::os::unix::net::UnixListener::bind(&socket));
    let host = Arc::new(Host::new());
    let (_, file) = Mapping::create("bar", 0x1_0000).expect("memory can be made");
    let mut bars = [const { None }; BARS];
    bars[0] = Some(Region {
        size: 4096,
        memory: None,
    });
    bars[2] = Some(Region {
        size: 0x1_0000,
        memory: Some(file),
    });
    let endpoint = Arc::new(Simple {
        bars,
        registers: Mutex::new([0; 16]),
        host: host.clone(),
        resets: Mutex::default(),
    });
    let transport =
        Transport::listen(&socket, host.clone(), endpoint.clone()).expect("it can listen");
    thread::spawn(move || transport.run());

    for round in 0..2 {
        let mut client = vfio_user::Client::new(&socket).expect("it answers");
        let region = client.region(0).expect("BAR 0 exists");
        assert_eq!((region.size, region.sparse_areas.len()), (4096, 0));
        let region = client.region(2).expect("BAR 2 exists");
        assert_eq!((region.size, region.sparse_areas.len()), (0x1_0000, 1));
        assert!(region.file_offset.is_some());
        let irq = client
            .get_irq_info(VFIO_PCI_MSIX_IRQ_INDEX)
            .expect("it tells");
        assert_eq!(irq.count, 8);

        let (guest, file) = Mapping::create("guest", 0x2000).expect("memory can be made");
        client
            .dma_map(0x1000, 0x1_0000, 0x1000, file.as_raw_fd())
            .expect("memory can be given");
        client
            .region_write(0, 4, &[1, 2, 3, 4])
            .expect("registers can be written");
        let mut bytes = [0; 4];
        client
            .region_read(0, 4, &mut bytes)
            .expect("registers can be read");
        assert_eq!(bytes, [1, 2, 3, 4]);
        assert_eq!(guest.load_u32(0x1000), Ok(0x0403_0201));
        client
            .region_read(VFIO_PCI_CONFIG_REGION_INDEX, 0, &mut bytes)
            .expect("configuration can be read");
        assert_eq!(bytes, [0xc0; 4]);
        client.dma_unmap(0x1_0000, 0x1000).expect("memory can go");
        assert!(host.load(0x1_0000).is_err());
        client.reset().expect("it can be reset");
        client.shutdown().expect("it can be left");
        drop(client);
        for _ in 0..1000 {
            if endpoint.resets.lock().len() == 2 * (round + 1) {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(
            endpoint.resets.lock()[2 * round..],
            [Reset::Function, Reset::PowerOn]
        );
    }
    let _ = fs::remove_dir_all(folder);
}

#[test]
fn quiet_is_when_no_message_is_answered() {
    let host = Arc::new(Host::new());
    let began = Instant::now();
    host.wait_until_quiet();
    assert!(began.elapsed() < LONGEST / 2);
    let answering = host.answer();
    let end = thread::spawn(move || {
        thread::sleep(LONGEST / 4);
        drop(answering);
    });
    host.wait_until_quiet();
    assert!(began.elapsed() >= LONGEST / 4);
    assert!(end.is_finished() || !host.answering.lock().is_some_and(|(busy, _)| busy));
    let _answering = host.answer();
    let began = Instant::now();
    host.wait_until_quiet();
    assert!(began.elapsed() >= LONGEST);
}
