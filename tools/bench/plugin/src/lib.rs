// SPDX-License-Identifier: MIT OR Apache-2.0
//! A TCG plugin that counts the instructions of the guest's first CPU, and tells
//! the guest.
//!
//! With icount the guest's clock counts instructions, but an idle guest jumps to
//! its next timer: what waits for a device cannot be measured. Here time is
//! left alone. A program executes `xchg %ecx, %ecx`, which no compiler emits, and
//! finds in `rax` the number of instructions that CPU 0 has executed before it.
//! What an idle CPU does not execute is not counted.
//!
//! Interface: QEMU's `include/plugins/qemu-plugin.h`, version 7.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

/// The version of the interface that this is written for.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = 7;

/// `xchg %ecx, %ecx`
const MARK: [u8; 2] = [0x87, 0xc9];
/// `QEMU_PLUGIN_INLINE_ADD_U64`
const ADD: c_int = 0;
/// `QEMU_PLUGIN_CB_RW_REGS`
const READ_WRITE_REGISTERS: c_int = 2;

/// `struct qemu_plugin_u64`
#[repr(C)]
#[derive(Clone, Copy)]
struct Counter {
    score: *mut c_void,
    offset: usize,
}

/// glib's `GArray` and `GByteArray`, as far as they are public.
#[repr(C)]
struct Array {
    data: *mut c_void,
    len: c_uint,
}

/// `qemu_plugin_reg_descriptor`
#[repr(C)]
struct Register {
    handle: *mut c_void,
    name: *const c_char,
    feature: *const c_char,
    is_readonly: bool,
}

type Id = u64;

unsafe extern "C" {
    fn qemu_plugin_register_vcpu_init_cb(
        id: Id,
        callback: unsafe extern "C" fn(),
        data: *mut c_void,
    );
    fn qemu_plugin_register_vcpu_tb_trans_cb(
        id: Id,
        callback: unsafe extern "C" fn(*mut c_void, *mut c_void),
        data: *mut c_void,
    );
    fn qemu_plugin_tb_n_insns(block: *const c_void) -> usize;
    fn qemu_plugin_tb_get_insn(block: *const c_void, index: usize) -> *mut c_void;
    fn qemu_plugin_insn_data(instruction: *const c_void, to: *mut c_void, len: usize) -> usize;
    fn qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(
        instruction: *mut c_void,
        operation: c_int,
        counter: Counter,
        value: u64,
    );
    fn qemu_plugin_register_vcpu_insn_exec_cb(
        instruction: *mut c_void,
        callback: unsafe extern "C" fn(c_uint, *mut c_void),
        flags: c_int,
        data: *mut c_void,
    );
    fn qemu_plugin_scoreboard_new(size: usize) -> *mut c_void;
    fn qemu_plugin_u64_get(counter: Counter, cpu: c_uint) -> u64;
    fn qemu_plugin_get_registers() -> *mut Array;
    fn qemu_plugin_write_register(handle: *mut c_void, from: *mut Array) -> c_int;
}

static SCORE: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static RAX: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

fn counter() -> Counter {
    Counter {
        score: SCORE.load(Relaxed),
        offset: 0,
    }
}

/// Finds `rax`, whose handle is the same for all CPUs. What QEMU passes differs between versions
/// and is not looked at.
unsafe extern "C" fn started() {
    // SAFETY: called where the interface allows it, in the callback of a CPU that starts.
    let array = unsafe { qemu_plugin_get_registers() };
    if array.is_null() {
        return;
    }
    // SAFETY: the array is ours to read, and has `len` descriptors.
    let registers = unsafe {
        let array = &*array;
        std::slice::from_raw_parts(array.data.cast::<Register>(), array.len as usize)
    };
    for register in registers {
        // SAFETY: names are C strings.
        if unsafe { CStr::from_ptr(register.name) } == c"rax" {
            RAX.store(register.handle, Relaxed);
        }
    }
}

unsafe extern "C" fn translated(block: *mut c_void, _data: *mut c_void) {
    // SAFETY: `block` is valid during this callback, and so are its instructions.
    let count = unsafe { qemu_plugin_tb_n_insns(block) };
    for index in 0..count {
        let mut bytes = [0u8; 16];
        // SAFETY: as above; `bytes` has the length that is said.
        let instruction = unsafe { qemu_plugin_tb_get_insn(block, index) };
        let len =
            unsafe { qemu_plugin_insn_data(instruction, bytes.as_mut_ptr().cast(), bytes.len()) };
        // SAFETY: the scoreboard was made before this callback was registered.
        unsafe {
            qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(instruction, ADD, counter(), 1);
        }
        if bytes.get(..len) == Some(&MARK) {
            // SAFETY: `tell` fits the flags that are given.
            unsafe {
                qemu_plugin_register_vcpu_insn_exec_cb(
                    instruction,
                    tell,
                    READ_WRITE_REGISTERS,
                    ptr::null_mut(),
                );
            }
        }
    }
}

unsafe extern "C" fn tell(_cpu: c_uint, _data: *mut c_void) {
    // SAFETY: the scoreboard exists, and CPU 0 always does.
    let mut count = unsafe { qemu_plugin_u64_get(counter(), 0) }.to_le_bytes();
    let mut array = Array {
        data: count.as_mut_ptr().cast(),
        len: count.len() as c_uint,
    };
    let rax = RAX.load(Relaxed);
    if !rax.is_null() {
        // SAFETY: the handle is QEMU's, the callback may write registers, and the array is only read.
        unsafe { qemu_plugin_write_register(rax, &mut array) };
    }
}

/// # Safety
///
/// QEMU calls this once, when it has loaded the plugin.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: Id,
    _info: *const c_void,
    _argc: c_int,
    _argv: *const *const c_char,
) -> c_int {
    // SAFETY: called from `install`, with the id that QEMU gave.
    unsafe {
        SCORE.store(qemu_plugin_scoreboard_new(size_of::<u64>()), Relaxed);
        qemu_plugin_register_vcpu_init_cb(id, started, ptr::null_mut());
        qemu_plugin_register_vcpu_tb_trans_cb(id, translated, ptr::null_mut());
    }
    0
}
