// SPDX-License-Identifier: GPL-2.0
//! What each step does. Nothing here judges an errno: the kernel may refuse anything.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use libaccel::uapi::{ACCEL_INFO_IDENTITY, ACCEL_IOCTL_INFO, accel_info, accel_info_identity};

use super::Machine;
use super::argument::{self, Argument};
use super::things::{File, MAP_STRIDE, Map};
use crate::program::{Call, Node, Other, Remap, Resize, Step, Value, Which};
use crate::sys::{self, Answer, Arena, PAGE};
use crate::table::Pool;

/// The longest that a step waits or sleeps, in milliseconds.
const PATIENCE: u8 = 30;

/// How long a process that a program makes may take.
const CHILD: Duration = Duration::from_secs(2);

/// A program does not have what the step needs.
const NOTHING: Answer = Err(libc::ENOENT);

type Fields = std::collections::BTreeMap<String, Value>;

fn milliseconds(number: u8) -> Duration {
    Duration::from_millis(number.min(PATIENCE).into())
}

fn protection(bits: u8) -> i32 {
    let mut protection = libc::PROT_NONE;
    for (bit, means) in [
        (1, libc::PROT_READ),
        (2, libc::PROT_WRITE),
        (4, libc::PROT_EXEC),
    ] {
        if bits & bit != 0 {
            protection |= means;
        }
    }
    protection
}

/// Pieces of advice that change what is mapped, and some others.
const ADVICE: &[i32] = &[
    libc::MADV_DONTNEED,
    libc::MADV_WILLNEED,
    libc::MADV_DONTFORK,
    libc::MADV_DOFORK,
    libc::MADV_REMOVE,
    libc::MADV_FREE,
    libc::MADV_HUGEPAGE,
    libc::MADV_COLD,
    libc::MADV_PAGEOUT,
    libc::MADV_POPULATE_READ,
    libc::MADV_POPULATE_WRITE,
    libc::MADV_MERGEABLE,
];

impl Machine<'_> {
    fn fd(&self, which: Which, then: impl FnOnce(i32) -> Answer) -> Answer {
        let file = self.things().file(which, |_| true);
        file.map_or(NOTHING, |file| then(file.fd))
    }

    pub fn step(&self, step: &Step, arena: &Arena, pipe: [i32; 2]) -> Answer {
        match step {
            Step::Open {
                device,
                node,
                read_only,
            } => {
                let fd = self.devices.open(*device, *node, *read_only)?;
                self.things().add_file(fd as i32, *device, *node);
                Ok(fd)
            }
            Step::Close { file } => {
                let file = self.things().remove_file(*file);
                file.map_or(NOTHING, |file| sys::close(file.fd))
            }
            Step::Dup { file } => self.duplicate(*file, |file| sys::dup(file.fd)),
            Step::Pass { file, receive } => self.pass(*file, *receive),
            Step::Fork { file } => self.fork(*file, arena),
            Step::Ioctl {
                call,
                file,
                fields,
                resize,
            } => self.ioctl(*call, *file, fields, *resize, arena),
            Step::Strange { file, number, with } => {
                arena.put(0, &[*with; 256]);
                self.fd(*file, |fd| sys::ioctl(fd, *number, arena.address(0)))
            }
            Step::Read { file, bytes } => self.fd(*file, |fd| {
                // A file without anything to read is waited for.
                match sys::poll(fd, milliseconds(PATIENCE))? & i64::from(libc::POLLIN) {
                    0 => Err(libc::EAGAIN),
                    _ => sys::read(fd, arena.address(0), *bytes as usize),
                }
            }),
            Step::Write { file, bytes } => self.fd(*file, |fd| {
                sys::write(fd, arena.address(0), *bytes as usize)
            }),
            Step::Poll {
                file,
                milliseconds: time,
            } => self.fd(*file, |fd| sys::poll(fd, milliseconds(*time))),
            Step::Fdinfo { file } => self.fd(*file, |fd| {
                let text = fs::read(format!("/proc/self/fdinfo/{fd}"));
                text.map(|text| text.len() as i64)
                    .map_err(|error| error.raw_os_error().unwrap_or(0))
            }),
            Step::Eventfd { start } => {
                let fd = sys::eventfd(*start)?;
                self.things().eventfds.push(fd as i32);
                Ok(fd)
            }
            Step::Interrupt { thread } => self.interrupt(usize::from(*thread)),
            Step::Sleep { milliseconds: time } => {
                thread::sleep(milliseconds(*time));
                Ok(0)
            }
            Step::Show { device, file } => self.devices.show(*device, *file),
            Step::Set { device, file, text } => self.devices.set(*device, *file, text),
            Step::Unbind { device } => self.devices.unbind(*device),
            Step::Bind { device } => self.devices.bind(*device),
            Step::Reset { device, bus } => self.devices.reset(*device, *bus),
            Step::Inject { line } => self.devices.inject(line),
            Step::Suspend {} => self.devices.suspend(),
            memory => self.memory_step(memory, arena, pipe),
        }
    }

    fn memory_step(&self, step: &Step, arena: &Arena, [from, to]: [i32; 2]) -> Answer {
        let find = |map: u8| self.things().map(map).ok_or(libc::ENOENT);
        match step {
            Step::Mmap {
                file,
                offset,
                pages,
                protection: bits,
                private,
            } => self.mmap(*file, offset, *pages, protection(*bits), *private),
            Step::Munmap {
                map,
                from: first,
                pages,
            } => {
                let map = find(*map)?;
                let first = usize::from(*first) * PAGE % map.size.max(PAGE);
                let size = (usize::from(*pages) * PAGE).min(map.size - first.min(map.size));
                if first == 0 && size == map.size {
                    self.things().change_map(map, None);
                }
                sys::munmap(map.address + first as u64, size)
            }
            Step::Mremap { map, pages, how } => {
                let map = find(*map)?;
                let place = self.things().place();
                let size = usize::from(*pages).max(1) * PAGE;
                let to = (*how != Remap::InPlace).then_some(place);
                let at = sys::mremap(map.address, map.size, size, to, *how == Remap::Copy)?;
                let new = Map {
                    address: at as u64,
                    size,
                };
                let mut things = self.things();
                match how {
                    Remap::Copy => things.add_map(new),
                    Remap::InPlace | Remap::Move => things.change_map(map, Some(new)),
                }
                Ok(0)
            }
            Step::Protect {
                map,
                protection: bits,
            } => {
                let map = find(*map)?;
                sys::mprotect(map.address, map.size, protection(*bits))
            }
            Step::Advise { map, advice } => {
                let map = find(*map)?;
                let advice = ADVICE[usize::from(*advice) % ADVICE.len()];
                sys::madvise(map.address, map.size, advice)
            }
            Step::Touch { map, offset, write } => {
                let map = find(*map)?;
                let at = map.address + u64::from(*offset) % MAP_STRIDE;
                if *write {
                    return sys::scribble(at, 1);
                }
                // A pipe takes the byte; then it is emptied again.
                let done = sys::write(to, at, 1);
                let _ = sys::read(from, arena.address(0), 1);
                done
            }
            Step::Peek { map, offset, write } => {
                let map = find(*map)?;
                let place = map.address + u64::from(*offset) % MAP_STRIDE;
                let memory = sys::open(Path::new("/proc/self/mem"), libc::O_RDWR)? as i32;
                let done = sys::transfer_at(memory, arena.address(0), 8, place, *write);
                let _ = sys::close(memory);
                done
            }
            Step::Store { map, offset, words } => {
                let map = find(*map)?;
                let at = map.address + u64::from(*offset) % MAP_STRIDE;
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                arena.put(0, &bytes);
                sys::write(to, arena.address(0), bytes.len().min(PAGE))?;
                let done = sys::read(from, at, bytes.len().min(PAGE));
                if done.is_err() {
                    let _ = sys::read(from, arena.address(0), PAGE);
                }
                done
            }
            // Those that are not about memory are above.
            _ => NOTHING,
        }
    }

    /// Another descriptor of the same file.
    fn duplicate(&self, which: Which, how: impl FnOnce(File) -> Answer) -> Answer {
        let file = self.things().file(which, |_| true).ok_or(libc::ENOENT)?;
        let fd = how(file)?;
        self.things().add_descriptor(fd as i32, file);
        Ok(fd)
    }

    fn pass(&self, which: Which, receive: bool) -> Answer {
        let file = self.things().file(which, |_| true).ok_or(libc::ENOENT)?;
        let [one, other] = sys::socket_pair()?;
        self.things().sockets.extend([one, other]);
        sys::send_fd(one, file.fd)?;
        if receive {
            return self.duplicate(which, |_| sys::receive_fd(other));
        }
        Ok(0)
    }

    /// What the process does is system calls only: other threads of this one may hold locks.
    fn fork(&self, which: Which, arena: &Arena) -> Answer {
        let (file, map) = {
            let things = self.things();
            (things.file(which, |_| true), things.map(0))
        };
        let file = file.ok_or(libc::ENOENT)?;
        let number = ACCEL_IOCTL_INFO.number();
        let info = accel_info {
            query: ACCEL_INFO_IDENTITY,
            size: size_of::<accel_info_identity>() as u32,
            ptr: arena.address(PAGE),
            ..Default::default()
        };
        for (offset, word) in [
            (0, info.query),
            (4, info.index),
            (8, info.size),
            (12, info.flags),
        ] {
            arena.put(offset, &word.to_le_bytes());
        }
        arena.put(16, &info.ptr.to_le_bytes());
        let child = sys::fork(|| {
            let _ = sys::ioctl(file.fd, number, arena.address(0));
            if let Some(map) = map {
                let _ = sys::scribble(map.address, 1);
            }
            let _ = sys::close(file.fd);
            0
        })?;
        if child.wait(CHILD).is_none() {
            child.kill();
            child.wait(CHILD).ok_or(libc::ETIME)?;
        }
        Ok(0)
    }

    fn ioctl(
        &self,
        call: Call,
        which: Which,
        fields: &Fields,
        resize: Option<Resize>,
        arena: &Arena,
    ) -> Answer {
        let table = call.table();
        let (file, made) = {
            let things = self.things();
            let fits = |file: &File| match table.interface {
                Some(interface) => {
                    file.node == Node::Compute && file.device.interface() == interface
                }
                None => file.node == Node::Compute || table.on_control,
            };
            let file = things.file(which, fits).ok_or(libc::ENOENT)?;
            let made = Argument::new(arena, &things, file).make(table, fields, resize);
            (file, made)
        };
        let given = sys::ioctl(file.fd, made.number, made.address)?;
        argument::harvest(arena, &mut self.things(), table, file);
        Ok(given)
    }

    fn mmap(
        &self,
        which: Which,
        offset: &Value,
        pages: u16,
        protection: i32,
        private: bool,
    ) -> Answer {
        let (file, place, offset) = {
            let mut things = self.things();
            let file = things.file(which, |file| file.node == Node::Compute);
            let file = file.ok_or(libc::ENOENT)?;
            let offset = match offset {
                Value::Number(number) => Some(*number),
                Value::Other(Other::Latest(before)) => {
                    things.value(Pool::Offset, Some(file.id), *before)
                }
                Value::Other(Other::Foreign(before)) => things.value(Pool::Offset, None, *before),
                _ => None,
            };
            (file, things.place(), offset.unwrap_or(0))
        };
        let size = usize::from(pages) * PAGE;
        let at = sys::mmap(Some(place), file.fd, offset, size, protection, private)?;
        self.things().add_map(Map {
            address: at as u64,
            size,
        });
        Ok(0)
    }
}
