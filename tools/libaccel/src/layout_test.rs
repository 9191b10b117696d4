// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks a C compiler whether Rust has every size, offset and number right.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::uapi::{CALLS, STRUCTS};

/// Expressions of C, and the values that Rust found for them.
fn layout() -> Vec<(String, usize)> {
    let mut table = Vec::new();
    for all in STRUCTS {
        let of = format!("struct {}", all.name);
        table.push((format!("sizeof({of})"), all.size));
        for field in all.fields {
            let name = field.name;
            table.push((format!("offsetof({of}, {name})"), field.offset));
            table.push((format!("sizeof((({of} *)0)->{name})"), field.size));
        }
    }
    for call in CALLS {
        table.push((call.name.to_owned(), call.number as usize));
        let size = format!(
            "_IOC_SIZE({}) - sizeof(struct {})",
            call.name, call.argument
        );
        table.push((size, 0));
    }
    table
}

/// Headers of `include/uapi/accel`, as `#include` lines.
fn includes(folder: &str) -> String {
    let mut lines = String::new();
    for entry in std::fs::read_dir(format!("{folder}/accel")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".h") {
            lines += &format!("#include <accel/{name}>\n");
        }
    }
    lines
}

/// Compiles assertions with `option`; what the compiler says against them.
fn compile(option: &str, extra: &str) -> Result<(), String> {
    let include = concat!(env!("CARGO_MANIFEST_DIR"), "/../../include/uapi");
    let mut source = String::from("#include <stddef.h>\n") + &includes(include) + extra;
    for (expression, value) in layout() {
        source += &format!("_Static_assert({expression} == {value}ul, \"{expression}\");\n");
    }
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let mut child = Command::new(compiler)
        .args([option, "-fsyntax-only", "-xc", "-I", include, "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(source.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn the_table_has_everything() {
    for wanted in [
        "sizeof(struct accel_info_identity)",
        "offsetof(struct accel_info_identity, parent)",
        "offsetof(struct accel_timeline_wait, reserved)",
        "ACCEL_IOCTL_TIMELINE_EVENTFD",
        "ACCEL_EDU_IOCTL_COPY",
        "ACCEL_NULL_IOCTL_ADD",
        "offsetof(struct accel_npu_operand, type)",
        "offsetof(struct accel_npu_command, operands)",
        "sizeof(((struct accel_info_queries *)0)->name)",
        "ACCEL_NPU_IOCTL_SUBMIT",
    ] {
        let found = layout().iter().any(|(expression, _)| *expression == wanted);
        assert!(found, "{wanted} is not in the table");
    }
}

#[test]
fn c_agrees() {
    compile("-O0", "").unwrap();
}

#[test]
#[cfg(target_arch = "x86_64")]
fn c_agrees_for_32_bit_programs() {
    match compile("-m32", "") {
        Err(error) if error.contains("No such file") => {
            eprintln!("skipped: no headers for -m32 (gcc-multilib)");
        }
        other => other.unwrap(),
    }
}

#[test]
fn c_would_disagree() {
    let wrong = "_Static_assert(sizeof(struct accel_info) == 1, \"wrong\");\n";
    assert!(compile("-O0", wrong).is_err());
}
