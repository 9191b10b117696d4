// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes the Rust side of the kernel interface from the C headers in `include/uapi`.
//!
//! The `bindgen` command reads the headers; nothing is copied by hand, so the
//! two cannot drift apart. Two files land in `OUT_DIR`:
//!
//! - `uapi.rs`: structs, constants and one typed [`Request`] for each ioctl;
//! - `tables.rs`: every ioctl, and every struct with its fields as Rust sees them.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

/// What stands before an ioctl's name in the constant that bindgen evaluates.
const NUMBER: &str = "NUMBER_OF_";

const HELP: &str = "\
libaccel makes its bindings with the bindgen command (0.69 or newer), which it did not find.
Install it, with libclang:  apt install bindgen libclang-dev   (Debian, Ubuntu)
                            dnf install bindgen-cli clang-devel (Fedora)
                            cargo install bindgen-cli           (elsewhere)
or say where it is:         BINDGEN=/path/to/bindgen";

/// An ioctl of the headers: its name and the struct that it takes.
struct Call {
    name: String,
    argument: String,
}

/// A struct of the headers and the names of its fields.
struct Layout {
    name: String,
    fields: Vec<String>,
}

fn main() {
    if let Err(error) = run() {
        // Cargo shows a build script's output as it is; a panic would bury it.
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(variable("OUT_DIR")?);
    let include = manifest.join("../../include/uapi");
    println!("cargo::rerun-if-env-changed=BINDGEN");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", include.display());

    let headers = headers(&include.join("accel"))?;
    let mut calls = Vec::new();
    let mut layouts = Vec::new();
    let mut wrapper = String::new();
    for header in &headers {
        println!("cargo::rerun-if-changed={}", header.display());
        let text = fs::read_to_string(header).map_err(|e| format!("{}: {e}", header.display()))?;
        calls.extend(find_calls(&text));
        layouts.extend(find_layouts(&text));
        let file = header.file_name().unwrap_or_default().to_string_lossy();
        writeln!(wrapper, "#include <accel/{file}>")?;
    }
    // bindgen cannot evaluate a macro that expands to sizeof, but a constant it can.
    for Call { name, .. } in &calls {
        writeln!(wrapper, "static const __u32 {NUMBER}{name} = {name};")?;
    }
    let wrapper_path = out.join("wrapper.h");
    fs::write(&wrapper_path, wrapper)?;

    let mut bindings = bindgen(&wrapper_path, &include)?;
    write_requests(&mut bindings, &calls)?;
    fs::write(out.join("uapi.rs"), bindings)?;
    fs::write(out.join("tables.rs"), tables(&layouts, &calls)?)?;
    Ok(())
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|e| format!("{name}: {e}: is this run by cargo?"))
}

/// The headers in `folder`, in the order of their names.
fn headers(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let broken = |e: io::Error| {
        format!(
            "{}: {e}: libaccel is built inside of its source tree, from include/uapi",
            folder.display()
        )
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(broken)? {
        let path = entry.map_err(broken)?.path();
        if path.extension().is_some_and(|e| e == "h") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Runs bindgen over `wrapper` and returns what it printed.
fn bindgen(wrapper: &Path, include: &Path) -> Result<String, Box<dyn Error>> {
    let program = PathBuf::from(env::var_os("BINDGEN").unwrap_or_else(|| "bindgen".into()));
    let mut command = Command::new(&program);
    command
        .arg(wrapper)
        .args(["--allowlist-item", "(ACCEL|accel)_.*"])
        .args(["--allowlist-item", &format!("{NUMBER}.*")])
        .args(["--default-enum-style", "consts"])
        .args(["--ctypes-prefix", "::core::ffi"])
        .args(["--use-core", "--no-prepend-enum-name", "--no-doc-comments"])
        .args(["--with-derive-default", "--with-derive-partialeq"])
        .args(["--with-derive-eq"])
        .arg("--")
        .arg(format!("--target={}", variable("TARGET")?))
        .arg("-I")
        .arg(include);
    let output = match command.output() {
        Ok(output) => output,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(HELP.into()),
        Err(e) => return Err(format!("{}: {e}", program.display()).into()),
    };
    if !output.status.success() {
        return Err(format!(
            "{} failed ({}):\n{}\
             Where it misses linux/types.h, install the kernel's headers for user space \
             (linux-libc-dev);\nwhere it misses libclang, libclang-dev.",
            program.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )
        .into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Adds a typed constant for each ioctl, under the name that it has in C.
fn write_requests(bindings: &mut String, calls: &[Call]) -> Result<(), Box<dyn Error>> {
    for Call { name, argument } in calls {
        if !bindings.contains(&format!("pub const {NUMBER}{name}:")) {
            return Err(format!(
                "bindgen did not evaluate {name}: is it older than 0.69? Set BINDGEN to a newer one"
            )
            .into());
        }
        writeln!(
            bindings,
            "pub const {name}: crate::Request<{argument}> = \
             crate::Request::new({NUMBER}{name}, \"{name}\");"
        )?;
    }
    Ok(())
}

/// `#define X _IOWR(type, number, struct argument)`, which may go over lines.
fn find_calls(header: &str) -> Vec<Call> {
    let joined = header.replace("\\\n", " ");
    joined
        .lines()
        .filter_map(|line| {
            let (name, value) = line
                .strip_prefix("#define ")?
                .split_once(char::is_whitespace)?;
            if !value.trim_start().starts_with("_IO") {
                return None;
            }
            let argument = value.rsplit_once("struct ")?.1.trim().strip_suffix(')')?;
            Some(Call {
                name: name.to_owned(),
                argument: argument.to_owned(),
            })
        })
        .collect()
}

/// Every `struct name {` at the start of a line, up to its `};`.
fn find_layouts(header: &str) -> Vec<Layout> {
    let mut found: Vec<Layout> = Vec::new();
    let mut inside = false;
    for line in header.lines() {
        if let Some(name) = line
            .strip_prefix("struct ")
            .and_then(|rest| rest.strip_suffix(" {"))
        {
            inside = true;
            found.push(Layout {
                name: name.to_owned(),
                fields: Vec::new(),
            });
        } else if line == "};" {
            inside = false;
        } else if let (true, Some(layout)) = (inside, found.last_mut()) {
            let declaration = line.split([';', '[']).next().unwrap_or_default();
            if let Some((_, field)) = declaration.trim().rsplit_once(' ') {
                layout.fields.push(field.to_owned());
            }
        }
    }
    found
}

/// The tables of [`uapi`](../src/uapi.rs): what there is, with values that the compiler finds.
fn tables(layouts: &[Layout], calls: &[Call]) -> Result<String, std::fmt::Error> {
    let mut tables = String::from("pub const STRUCTS: &[Struct] = &[\n");
    for Layout { name, fields } in layouts {
        writeln!(
            tables,
            "Struct {{ name: \"{name}\", size: size_of::<{name}>(), fields: &["
        )?;
        for field in fields {
            // bindgen's name for what is a word of Rust's own.
            let own = if field == "type" { "type_" } else { field };
            writeln!(
                tables,
                "Field {{ name: \"{field}\", offset: ::core::mem::offset_of!({name}, {own}), \
                 size: size_of_field(|all: &{name}| &all.{own}) }},"
            )?;
        }
        tables.push_str("] },\n");
    }
    tables.push_str("];\npub const CALLS: &[Call] = &[\n");
    for Call { name, argument } in calls {
        writeln!(
            tables,
            "Call {{ name: \"{name}\", number: {NUMBER}{name}, argument: \"{argument}\" }},"
        )?;
    }
    tables.push_str("];\n");
    Ok(tables)
}
