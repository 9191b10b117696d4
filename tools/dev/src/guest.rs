// SPDX-License-Identifier: GPL-2.0
//! Booting a guest in QEMU, doing one job in it, and bringing back what it said.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::command::{tail, tied};
use crate::image::{self, Contents};
use crate::kernel::Kernel;
use crate::klog;
use crate::models::{CONTROL, Interrupts, Model, SOCKET};
use crate::modules::Modules;
use crate::place::Place;
use crate::service;
use crate::step;

/// How many educational devices a guest has if nothing else is asked for.
pub const DEFAULT_EDU: usize = 2;

/// The same of NPUs.
pub const DEFAULT_NPU: usize = 1;

/// How long QEMU waits for an answer of a device model, in milliseconds. If a model dies instead
/// of answering, the guest stands still for as long: less than what its watchdogs (20 s) bear.
const MODEL_TIMEOUT: u32 = 15_000;

/// The CPU that is emulated: all that can be, but for what says that string instructions are fast.
/// They are emulated byte by byte, and the kernel would clear and copy its pages with them.
const CPU: &str = "max,erms=off,fsrm=off,fsrs=off";

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    Kvm,
    Tcg,
    /// One thread, and a clock that counts instructions: for measuring. An idle guest jumps to
    /// its next timer, so that nothing can be waited for that lives in real time, as models do.
    Counting,
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Accel::Kvm => "KVM",
            Accel::Tcg => "TCG",
            Accel::Counting => "TCG, counting instructions",
        })
    }
}

/// What the guest does once it is up.
#[derive(Debug)]
pub enum Job {
    /// Nothing: it only says that it booted.
    Probe,
    /// A line for bash.
    Command(String),
    /// The tests that `accel/tests` in the image lists.
    Tests,
    /// An interactive shell on this terminal.
    Shell,
}

/// A guest that is to be booted.
pub struct Guest<'a> {
    pub place: &'a Place,
    pub kernel: &'a Kernel,
    /// Our modules, if the guest is to have any.
    pub modules: Option<&'a Modules>,
    /// Modules to load before the job, each with its parameters.
    pub load: Vec<String>,
    pub contents: Contents,
    pub job: Job,
    pub accel: Accel,
    pub cpus: usize,
    pub edu: usize,
    /// How many NPUs it has, and how they interrupt.
    pub npu: usize,
    pub npu_interrupts: Interrupts,
    /// The program that has the model of the NPU; not needed without one.
    pub emulator: Option<&'a Path>,
    /// A plugin for TCG.
    pub plugin: Option<PathBuf>,
    /// Whether the guest has a port `accel.record`, for what must not be lost when it dies.
    pub record: bool,
    pub cmdline: String,
    /// How many cycles a test is to do that can do any number.
    pub cycles: Option<u64>,
    /// Whether it may restart, as often as it likes. It has the kernel then, as `RESTART_KERNEL`,
    /// and its own first file system, in `/sys/firmware/initrd`.
    pub restarts: bool,
    /// The longest that the guest may take in all.
    pub limit: Duration,
    /// The longest that it may say nothing at all.
    pub silence: Duration,
}

/// Something that the guest sent.
pub enum Said<'a> {
    Out(&'a [u8]),
    Err(&'a [u8]),
    /// Written to `accel.record`; the writer went on when it had arrived.
    Record(&'a [u8]),
}

/// How a run ended.
#[derive(Debug, Default)]
pub struct Ended {
    /// The job's exit status; none if the guest went away before it had one.
    pub status: Option<i32>,
    /// The kernel log.
    pub log: String,
    /// Reports in the kernel log that must not be there.
    pub reports: Vec<String>,
    /// Modules that could not be loaded, and why.
    pub refused: Vec<String>,
    /// What was wrong with device models.
    pub models: Vec<String>,
    /// Whether the guest came up at all.
    pub booted: bool,
    /// How often it came up again.
    restarted: usize,
    /// Why it was killed, if it was.
    pub killed: Option<String>,
    /// What QEMU itself said; it warns of things that are as they should be, too.
    qemu: String,
}

impl Ended {
    /// What is wrong with the run apart from the job's own status.
    pub fn trouble(&self) -> Option<String> {
        let mut parts = Vec::new();
        if let Some(why) = &self.killed {
            parts.push(format!("the guest was stopped: {why}"));
        }
        for module in &self.refused {
            parts.push(format!("not loaded: {module}"));
        }
        parts.extend(self.models.iter().cloned());
        for report in &self.reports {
            parts.push(format!("the guest's kernel log has a report:\n{report}"));
        }
        if self.status.is_none() && self.killed.is_none() {
            parts.push("the guest ended before its job did".to_owned());
        }
        if self.status.is_none() && !self.qemu.is_empty() {
            parts.push(format!("QEMU said:\n{}", tail(&self.qemu, 10)));
        }
        if self.status.is_none() && self.reports.is_empty() {
            parts.push(format!("its last words:\n{}", tail(&self.log, 20)));
        }
        (!parts.is_empty()).then(|| parts.join("\n"))
    }
}

/// The longest that a guest takes to boot, on a machine that has much else to do.
const BOOT: Duration = Duration::from_secs(120);

enum Event {
    Out(Vec<u8>),
    Err(Vec<u8>),
    Control(Vec<u8>),
    Record(Vec<u8>),
}

/// Where a guest that may restart has its own kernel.
const RESTART_KERNEL: &str = "accel/vmlinuz";

/// The port to QEMU's monitor.
const MONITOR: &str = "accel.monitor";

/// What is in the folder of a run: the guest's first file system, its kernel's log, and what QEMU
/// says.
const INITRD: &str = "initrd";
const KLOG: &str = "klog";
const QEMU: &str = "qemu";

type ToEvent = fn(Vec<u8>) -> Event;

/// The channels from the guest, by the name of their port.
const PORTS: &[(&str, ToEvent)] = &[
    ("out", Event::Out),
    ("err", Event::Err),
    ("ctl", Event::Control),
    (RECORD, Event::Record),
];

/// The channel that only some guests have.
const RECORD: &str = "record";

impl Guest<'_> {
    /// Boots, does the job, powers off. `hear` gets the job's output as it comes.
    ///
    /// Emulated machines now and then stop while they boot. One that has said nothing wrong gets a
    /// second go; the job has not begun then.
    pub fn run(mut self, mut hear: impl FnMut(Said)) -> Result<Ended> {
        self.contents
            .texts
            .push(("accel/job".to_owned(), self.job_text()));
        if let Job::Command(command) = &self.job {
            self.contents
                .texts
                .push(("accel/command".to_owned(), format!("{command}\n")));
        }
        if self.restarts {
            let kernel = (RESTART_KERNEL.to_owned(), self.kernel.image.clone());
            self.contents.files.push(kernel);
        }
        let ended = self.attempt(&mut hear)?;
        let stuck = !ended.booted
            && ended.killed.is_some()
            && ended.reports.is_empty()
            && ended.models.is_empty();
        if !stuck || matches!(self.job, Job::Probe) {
            return Ok(ended);
        }
        eprintln!(
            "the guest stopped while it booted; once more. Its last words:\n{}",
            tail(&ended.log, 5)
        );
        self.attempt(&mut hear)
    }

    fn attempt(&self, hear: &mut impl FnMut(Said)) -> Result<Ended> {
        let folder = Folder::new()?;
        image::write(
            self.place,
            self.kernel,
            self.modules,
            &self.contents,
            &folder.path.join(INITRD),
        )?;

        let (send, events) = mpsc::channel();
        for (name, event) in self.channels() {
            listen(&folder.path.join(name), send.clone(), *event)?;
        }
        drop(send);
        service::serve(&folder.path)?;
        let mut models = self.start_models(&folder.path)?;
        let child = self.start(&folder.path, &models)?;
        let followed = self.follow(child, &mut models, &events, &folder.path, hear);
        let mut faults = Vec::new();
        for model in models {
            let kept = self.kept_log(&format!("-{}", model.name()));
            faults.extend(model.end(&kept)?);
        }
        // A model may be why QEMU gave up.
        let mut ended = followed.map_err(|error| match faults.is_empty() {
            true => error,
            false => error.context(faults.join("\n")),
        })?;
        ended.models = faults;
        ended.log = text(&folder.path.join(KLOG));
        ended.qemu = text(&folder.path.join(QEMU));
        ended.reports = klog::reports(&ended.log);
        // The excerpts that are shown may not be all that somebody wants to see.
        let kept = self.kept_log("");
        fs::write(&kept, &ended.log).with_context(|| format!("writing {}", kept.display()))?;
        Ok(ended)
    }

    fn job_text(&self) -> String {
        let mode = match self.job {
            Job::Probe => "probe",
            Job::Command(_) => "command",
            Job::Tests => "tests",
            Job::Shell => "shell",
        };
        let size =
            |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
        format!(
            "MODE={mode}\nPORTS={}\nMODULES={}\nROWS={}\nCOLS={}\nexport TERM={}\n\
             export ACCEL_PATIENCE={}\n{}",
            quoted(&self.ports().join(" ")),
            quoted(&self.load.join("\n")),
            quoted(&size("LINES", "24")),
            quoted(&size("COLUMNS", "80")),
            quoted(&size("TERM", "linux")),
            self.kernel.flavour.patience,
            self.cycles.map_or(String::new(), |cycles| format!(
                "export ACCEL_CYCLES={cycles}\n"
            )),
        )
    }

    /// The channels that lead to this program.
    fn channels(&self) -> impl Iterator<Item = &(&'static str, ToEvent)> {
        PORTS
            .iter()
            .filter(|(name, _)| self.record || *name != RECORD)
    }

    /// The virtio-serial ports that the guest has.
    fn ports(&self) -> Vec<String> {
        let names = self
            .channels()
            .map(|(name, _)| *name)
            .chain([service::PORT]);
        let ours = names.map(|name| format!("accel.{name}"));
        let models = (0..self.npu).map(|number| format!("accel.npu{number}"));
        let monitor = self.is_pluggable().then(|| MONITOR.to_owned());
        ours.chain(models).chain(monitor).collect()
    }

    /// Whether a test may plug the NPUs. QEMU aborts when a model that has MSI-X is unplugged.
    fn is_pluggable(&self) -> bool {
        self.npu > 0 && self.npu_interrupts == Interrupts::Msi
    }

    fn kept_log(&self, of: &str) -> PathBuf {
        self.place
            .log(&format!("guest-{}{of}.log", self.kernel.flavour.name))
    }

    fn start_models(&self, folder: &Path) -> Result<Vec<Model>> {
        (0..self.npu)
            .map(|number| {
                let program = self
                    .emulator
                    .context("a guest with NPUs needs their model")?;
                Model::npu(program, number, self.npu_interrupts, folder)
            })
            .collect()
    }

    fn start(&self, folder: &Path, models: &[Model]) -> Result<Child> {
        let words = folder.join(QEMU);
        let stderr =
            File::create(&words).with_context(|| format!("writing {}", words.display()))?;
        let mut qemu = tied("qemu-system-x86_64");
        // Paths of sockets are relative, so that a test can name them.
        qemu.current_dir(folder)
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args((!self.restarts).then_some("-no-reboot"))
            // Without HPET: emulated, it now and then stops a boot that calibrates clocks by it.
            .arg("-machine")
            .arg(format!(
                "q35,hpet=off{}",
                if models.is_empty() {
                    ""
                } else {
                    ",memory-backend=memory"
                }
            ))
            .args(["-m", &self.kernel.flavour.memory.to_string()])
            .args(["-smp", &self.cpus.to_string()])
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(folder.join(INITRD))
            .arg("-append")
            .arg(format!(
                // A guest that waited for its turn finds its TSC unstable, and has no good clock then.
                "{} tsc=reliable panic=-1 oops=panic rcupdate.rcu_cpu_stall_timeout=60 {}{}",
                self.kernel.flavour.cmdline,
                if self.restarts { "retain_initrd " } else { "" },
                self.cmdline
            ))
            .args(["-device", "virtio-serial-pci"]);
        match self.accel {
            Accel::Kvm => qemu.args(["-accel", "kvm", "-cpu", "host"]),
            Accel::Tcg => qemu.args(["-accel", "tcg,thread=multi", "-cpu", CPU]),
            Accel::Counting => qemu
                .args([
                    "-accel",
                    "tcg,thread=single",
                    "-icount",
                    "shift=0,sleep=off",
                ])
                .args(["-cpu", CPU]),
        };
        if let Some(plugin) = &self.plugin {
            qemu.arg("-plugin").arg(plugin);
        }
        qemu.arg("-serial")
            .arg(format!("file:{}", folder.join(KLOG).display()));
        let ports = self
            .channels()
            .map(|(name, _)| *name)
            .chain([service::PORT]);
        for name in ports {
            qemu.arg("-chardev")
                .arg(format!(
                    "socket,id={name},path={}",
                    folder.join(name).display()
                ))
                .arg("-device")
                .arg(format!("virtserialport,chardev={name},name=accel.{name}"));
        }
        let monitor = format!(
            "socket,id=host-monitor,path={},server=on,wait=off",
            service::MONITOR
        );
        qemu.args(["-chardev", &monitor])
            .args(["-mon", "chardev=host-monitor,mode=control"]);
        for _ in 0..self.edu {
            qemu.args(["-device", "edu"]);
        }
        self.add_models(&mut qemu, models);
        if matches!(self.job, Job::Shell) {
            qemu.args([
                "-chardev",
                "stdio,id=tty,signal=off",
                "-serial",
                "chardev:tty",
            ]);
        } else {
            qemu.stdin(Stdio::null());
        }
        qemu.stderr(stderr)
            .spawn()
            .context("starting qemu-system-x86_64")
    }

    /// Each model behind a root port of its own, its control socket at a port `accel.<name>`.
    fn add_models(&self, qemu: &mut Command, models: &[Model]) {
        if !models.is_empty() {
            // Without share=on a model gets no memory that it could reach by DMA, and nobody is
            // told.
            qemu.arg("-object").arg(format!(
                "memory-backend-memfd,id=memory,size={}M,share=on",
                self.kernel.flavour.memory
            ));
        }
        let hotplug = if self.is_pluggable() { "on" } else { "off" };
        // A model that died is started again.
        let again = if self.is_pluggable() {
            ",reconnect-ms=20"
        } else {
            ""
        };
        if self.is_pluggable() {
            // What the guest writes there, it says to QEMU.
            qemu.args([
                "-chardev",
                "socket,id=monitor,path=monitor,server=on,wait=off",
            ])
            .args(["-mon", "chardev=monitor,mode=control"])
            .args(["-chardev", "socket,id=monitor-port,path=monitor"])
            .arg("-device")
            .arg(format!(
                "virtserialport,chardev=monitor-port,name={MONITOR}"
            ));
        }
        for (number, model) in models.iter().enumerate() {
            let (name, slot) = (model.name(), number + 1);
            qemu.arg("-device")
                .arg(format!(
                    "pcie-root-port,id={name}-port,chassis={slot},slot={slot},hotplug={hotplug}"
                ))
                .arg("-device")
                .arg(format!(
                    "{{\"driver\":\"vfio-user-pci\",\"id\":\"{name}\",\"bus\":\"{name}-port\",\
                     \"x-msg-timeout\":{MODEL_TIMEOUT},\
                     \"socket\":{{\"type\":\"unix\",\"path\":\"{name}.{SOCKET}\"}}}}"
                ))
                .arg("-chardev")
                .arg(format!(
                    "socket,id={name}-control,path={name}.{CONTROL}{again}"
                ))
                .arg("-device")
                .arg(format!(
                    "virtserialport,chardev={name}-control,name=accel.{name}"
                ));
        }
    }

    /// Passes on what the guest says until QEMU has ended; ends it when it takes too long.
    fn follow(
        &self,
        child: Child,
        models: &mut [Model],
        events: &Receiver<Event>,
        folder: &Path,
        hear: &mut impl FnMut(Said),
    ) -> Result<Ended> {
        let mut child = Killed(child);
        let began = Instant::now();
        let boot = BOOT * self.kernel.flavour.patience;
        let mut last = began;
        let mut log_size = 0;
        let mut ended = Ended::default();
        let mut control = String::new();
        let mut open = true;
        let mut restarted = 0;
        loop {
            if self.is_pluggable() {
                for model in &mut *models {
                    model.revive()?;
                }
            }
            match events.recv_timeout(Duration::from_millis(50)) {
                Ok(event) => {
                    last = Instant::now();
                    match event {
                        Event::Out(bytes) => hear(Said::Out(&bytes)),
                        Event::Err(bytes) => hear(Said::Err(&bytes)),
                        Event::Record(bytes) => hear(Said::Record(&bytes)),
                        Event::Control(bytes) => {
                            control.push_str(&String::from_utf8_lossy(&bytes));
                            take_lines(&mut control, &mut ended);
                        }
                    }
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    open = false;
                    thread::sleep(Duration::from_millis(20));
                }
            }
            if let Some(status) = child.0.try_wait().context("waiting for QEMU")? {
                if !status.success() && !ended.booted && ended.killed.is_none() {
                    let words = text(&folder.join(QEMU));
                    let first: Vec<&str> = words.lines().take(10).collect();
                    bail!(
                        "QEMU could not run the guest ({status}):\n{}",
                        tail(&first.join("\n"), 10)
                    );
                }
                if !open || ended.killed.is_some() || ended.status.is_some() {
                    return Ok(ended);
                }
                // The readers end when they have passed on everything.
                if last.elapsed() > Duration::from_secs(2) {
                    return Ok(ended);
                }
                continue;
            }
            if matches!(self.job, Job::Shell) {
                continue;
            }
            let size = fs::metadata(folder.join(KLOG)).map_or(0, |meta| meta.len());
            if size != log_size {
                log_size = size;
                last = Instant::now();
            }
            let probing = matches!(self.job, Job::Probe);
            // It would go on and on.
            let is_new = std::mem::replace(&mut restarted, ended.restarted) < ended.restarted;
            let why = if is_new && !klog::reports(&text(&folder.join(KLOG))).is_empty() {
                Some("it restarted after a report".to_owned())
            } else if !probing && !ended.booted && began.elapsed() > boot {
                Some(format!("it had not booted after {} s", boot.as_secs()))
            } else if began.elapsed() > self.limit {
                Some(format!("it took longer than {} s", self.limit.as_secs()))
            } else if last.elapsed() > self.silence {
                Some(format!("it said nothing for {} s", self.silence.as_secs()))
            } else {
                None
            };
            if why.is_some() {
                ended.killed = why;
                child.0.kill().context("ending QEMU")?;
                child.0.wait().context("waiting for QEMU")?;
                return Ok(ended);
            }
        }
    }
}

fn take_lines(control: &mut String, ended: &mut Ended) {
    while let Some((line, rest)) = control.split_once('\n') {
        let (word, value) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "booted" if ended.booted => ended.restarted += 1,
            "booted" => ended.booted = true,
            "exit" => ended.status = value.trim().parse().ok(),
            "module" => ended.refused.push(value.to_owned()),
            _ => {}
        }
        *control = rest.to_owned();
    }
}

fn text(file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
}

/// A string for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn listen(path: &Path, send: Sender<Event>, event: ToEvent) -> Result<()> {
    let listener =
        UnixListener::bind(path).with_context(|| format!("listening at {}", path.display()))?;
    thread::spawn(move || {
        let Ok((mut stream, _)) = listener.accept() else {
            return;
        };
        let mut buffer = [0; 16384];
        while let Ok(size) = stream.read(&mut buffer) {
            if size == 0 || send.send(event(buffer[..size].to_vec())).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// QEMU, ended when this goes.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// A folder of this run, gone when the run ends. It is in memory: `/tmp` of the build root is.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new() -> Result<Self> {
        for number in 0..1000 {
            let path = std::env::temp_dir().join(format!("accel-{}-{number}", std::process::id()));
            if fs::create_dir(&path).is_ok() {
                return Ok(Self { path });
            }
        }
        bail!(
            "no folder can be made in {}",
            std::env::temp_dir().display()
        );
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = step::remove(&self.path);
    }
}
