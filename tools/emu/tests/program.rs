// SPDX-License-Identifier: GPL-2.0
//! The program as it is started beside QEMU, with a client that does what QEMU does.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use accel_emu::memory::Mapping;
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX,
};
use vfio_user::Client;

/// A model that runs, and is killed if a test fails.
struct Model {
    child: Child,
    folder: PathBuf,
}

impl Model {
    fn start(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("accel-emu-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder can be made");
        let mut child = Command::new(env!("CARGO_BIN_EXE_accel-emu"))
            .args(["npu", "--memory-mib", "16", "--socket"])
            .arg(folder.join("socket"))
            .arg("--control")
            .arg(folder.join("control"))
            .arg("--log")
            .arg(folder.join("log"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be started");
        let stdout = child.stdout.take().expect("it has an output");
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("it can be heard");
        assert_eq!(line, "ready\n");
        Self { child, folder }
    }

    fn connect(&self) -> Client {
        Client::new(&self.folder.join("socket")).expect("it answers")
    }

    fn say(&self, line: &str) -> String {
        let mut control =
            UnixStream::connect(self.folder.join("control")).expect("the control socket is there");
        writeln!(control, "{line}").expect("it listens");
        let mut answer = String::new();
        let _ = BufReader::new(control).read_line(&mut answer);
        answer
    }

    /// Waits until it has ended; what it exits with.
    fn end(&mut self) -> Option<i32> {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status.code();
            }
            assert!(Instant::now() < end, "it does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn get(client: &mut Client, offset: u64) -> u32 {
    let mut bytes = [0; 4];
    client
        .region_read(0, offset, &mut bytes)
        .expect("it answers");
    u32::from_le_bytes(bytes)
}

fn wait_ready(client: &mut Client) {
    let end = Instant::now() + Duration::from_secs(10);
    while get(client, 0x18) & 1 == 0 {
        assert!(Instant::now() < end, "it does not boot");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn it_ends_with_its_input_and_cleans_up() {
    let mut model = Model::start("input");
    assert!(model.say("stats").starts_with("ok mmio_reads=0 "));
    drop(model.child.stdin.take());
    assert_eq!(model.end(), Some(0));
    assert!(!model.folder.join("socket").exists() && !model.folder.join("control").exists());
    let log = fs::read_to_string(model.folder.join("log")).expect("there is a log");
    assert!(log.contains("the end"), "{log}");
}

#[test]
fn it_ends_when_told_to() {
    let mut model = Model::start("signal");
    let killed = Command::new("sh")
        .args(["-c", &format!("kill -TERM {}", model.child.id())])
        .status()
        .expect("there is a shell");
    assert!(killed.success());
    assert_eq!(model.end(), Some(0));
    assert!(!model.folder.join("socket").exists());

    let mut model = Model::start("die");
    let mut client = model.connect();
    assert_eq!(get(&mut client, 0), 0x4e50_5531);
    assert_eq!(model.say("die"), "");
    assert_eq!(model.end(), Some(42));
    assert!(client.region_read(0, 0, &mut [0; 4]).is_err());
    // What it left behind does not hinder the next.
    assert!(model.folder.join("socket").exists());
    let next = Model::start("die");
    assert!(next.say("help").starts_with("ok "));
}

#[test]
fn wrong_options_are_refused() {
    for memory in ["0", "17", "8", "131072", "x"] {
        let output = Command::new(env!("CARGO_BIN_EXE_accel-emu"))
            .args(["npu", "--socket", "/nowhere/s", "--control", "/nowhere/c"])
            .args(["--memory-mib", memory])
            .output()
            .expect("it can be started");
        assert!(!output.status.success(), "{memory}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn a_job_from_end_to_end() {
    const GUEST: u64 = 0x10_0000;
    const TABLES: u64 = 0x10_0000;
    const LIST: u64 = 0x20_0000;
    let model = Model::start("job");
    // The second client finds the card as the first did.
    for _ in 0..2 {
        let mut client = model.connect();
        let config = VFIO_PCI_CONFIG_REGION_INDEX;
        let mut id = [0; 4];
        client
            .region_read(config, 0, &mut id)
            .expect("it has a configuration");
        assert_eq!(id, [0xf4, 0x1a, 0xf0, 0x10]);
        let (guest, file) = Mapping::create("guest", 0x10_0000).expect("memory can be made");
        client
            .dma_map(0, GUEST, guest.size(), file.as_raw_fd())
            .expect("memory can be given");
        let (wire, mut end) = UnixStream::pair().expect("sockets can be made");
        let wire = File::from(OwnedFd::from(wire));
        let flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
        client
            .set_irqs(VFIO_PCI_MSIX_IRQ_INDEX, flags, 2, 1, &[wire.as_raw_fd()])
            .expect("interrupts can be wired");
        end.set_read_timeout(Some(Duration::from_secs(10)))
            .expect("that can be set");
        // Bus master and memory; MSI-X is the third capability.
        client
            .region_write(config, 4, &[6, 0])
            .expect("it takes that");
        client
            .region_write(config, 0x8a, &[0, 0x80])
            .expect("it takes that");
        wait_ready(&mut client);

        let mut set = |region: u32, offset: u64, value: u64| {
            client
                .region_write(region, offset, &value.to_le_bytes())
                .expect("it takes that");
        };
        // Device addresses of the first 2 MiB are host addresses from GUEST on, 2 MiB from LIST on
        // are device memory.
        for table in 0..4 {
            for entry in 0..512 {
                set(2, TABLES + 4096 * table + 8 * entry, 0);
            }
        }
        set(2, TABLES, (TABLES + 4096) | 1);
        set(2, TABLES + 4096, (TABLES + 2 * 4096) | 1);
        set(2, TABLES + 2 * 4096, (TABLES + 3 * 4096) | 1);
        set(2, TABLES + 2 * 4096 + 8, LIST | 0xf);
        set(2, TABLES + 3 * 4096 + 8, (GUEST + 0x4000) | 0x1f);
        set(0, 0x2_0000 + 8 * 7, TABLES | 1);
        // FILL 64 bytes at 4096 with 0x5a.
        let list: [(u64, u64); 7] = [
            (0, 2),
            (8, 0x5a),
            (64, 4096),
            (72, 2),
            (80, (1 << 32) | 1),
            (88, (64 << 32) | 1),
            (96 + 8, 1 << 32),
        ];
        for at in (0..256).step_by(8) {
            let value = list.iter().find(|(offset, _)| *offset == at);
            set(2, LIST + at, value.map_or(0, |(_, value)| *value));
        }
        set(0, 0x1_0000, GUEST);
        set(0, 0x1_0008, GUEST + 0x1000);
        set(0, 0x1_0010, GUEST + 0x2000);
        let mut set = |offset: u64, value: u32| {
            client
                .region_write(0, offset, &value.to_le_bytes())
                .expect("it takes that");
        };
        set(0x1_0018, 4);
        set(0x1_001c, 2);
        set(0x1_0020, 1);
        let mut entry = [0; 32];
        entry[0..8].copy_from_slice(&LIST.to_le_bytes());
        entry[8] = 1;
        entry[12] = 7;
        entry[14] = 1;
        entry[16..24].copy_from_slice(&0x1234_5678u64.to_le_bytes());
        guest.write(0, &entry).expect("it is in memory");
        guest.store_u32(0x2000, 1).expect("it is in memory");
        set(0x8_0000, 1);

        let mut count = [0; 8];
        end.read_exact(&mut count).expect("an interrupt comes");
        assert_eq!(guest.load_u32(0x1000 + 28), Ok(1));
        let mut completion = [0; 32];
        guest
            .read(0x1000, &mut completion)
            .expect("it is in memory");
        assert_eq!(completion[0..8], 0x1234_5678u64.to_le_bytes());
        assert_eq!(completion[24..28], [0; 4], "{completion:?}");
        let mut filled = [0; 66];
        guest.read(0x3fff, &mut filled).expect("it is in memory");
        assert_eq!((filled[0], filled[65]), (0, 0));
        assert!(filled[1..65].iter().all(|&byte| byte == 0x5a));
        client.shutdown().expect("it can be left");
    }
}
