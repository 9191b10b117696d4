// SPDX-License-Identifier: GPL-2.0
//! The places of a module that KCOV is called at, out of its file: each is a relocation against
//! KCOV's function, so that nothing has to be disassembled.

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SymbolKind};
use rustc_demangle::demangle;

use super::Site;

const CALLED: &str = "__sanitizer_cov_trace_pc";

/// What the names of the functions have that Rust panics with.
const PANIC: &str = "4core9panicking";

/// Bytes from the operand of a call, which is relocated, to the next instruction.
const OPERAND: u64 = 4;

/// Code that has run before anybody could be traced, or runs when nobody can be any more: loading
/// and unloading a module.
fn is_once(section: &str) -> bool {
    section.contains(".init.") || section.contains(".exit.")
}

/// Tests that are in the modules on kernels with KUnit: not what is fuzzed.
fn is_test(function: &str) -> bool {
    function.contains("kunit_") || function.contains("tests::")
}

/// The places of a module, in the order of sections and addresses.
pub fn sites(module: &str, file: &[u8]) -> Result<Vec<Site>> {
    let object = object::File::parse(file).context("this is no module")?;
    if object.architecture() != object::Architecture::X86_64 {
        bail!("relocations of {:?} are not known", object.architecture());
    }
    let mut sites = Vec::new();
    for section in object.sections() {
        let name = section.name()?;
        if is_once(name) {
            continue;
        }
        let mut functions: Vec<(u64, String)> = object
            .symbols()
            .filter(|symbol| {
                symbol.kind() == SymbolKind::Text && symbol.section_index() == Some(section.index())
            })
            .filter_map(|symbol| Some((symbol.address(), symbol.name().ok()?.to_owned())))
            .collect();
        functions.sort();
        let mut wanted = Vec::new();
        for (offset, relocation) in section.relocations() {
            if let RelocationTarget::Symbol(index) = relocation.target() {
                wanted.push((offset, object.symbol_by_index(index)?.name()?));
            }
        }
        wanted.sort_unstable();
        for (number, (offset, name_of_target)) in wanted.iter().enumerate() {
            if *name_of_target != CALLED {
                continue;
            }
            let is_panic = wanted[number + 1..]
                .iter()
                .take_while(|(_, target)| *target != CALLED)
                .any(|(_, target)| target.contains(PANIC));
            let offset = offset + OPERAND;
            let after = functions.partition_point(|(start, _)| *start < offset);
            let function = match functions[..after].last() {
                Some((_, name)) => format!("{:#}", demangle(name)),
                None => "?".to_owned(),
            };
            if is_test(&function) {
                continue;
            }
            sites.push(Site {
                module: module.to_owned(),
                section: name.to_owned(),
                offset,
                function,
                is_panic,
            });
        }
    }
    Ok(sites)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Compiles C to an object as a module is one.
    fn compiled(source: &str) -> Vec<u8> {
        let folder = std::env::temp_dir().join(format!("accel-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (from, to) = (folder.join("a.c"), folder.join("a.o"));
        std::fs::write(&from, source).unwrap();
        let status = Command::new("cc")
            .args(["-O1", "-fno-inline", "-ffunction-sections", "-c", "-o"])
            .arg(&to)
            .arg(&from)
            .status()
            .unwrap();
        assert!(status.success());
        let file = std::fs::read(&to).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        file
    }

    #[test]
    fn calls_are_found_with_their_functions() {
        let file = compiled(
            "void __sanitizer_cov_trace_pc(void);
             void other(void);
             void one(void) { __sanitizer_cov_trace_pc(); other(); __sanitizer_cov_trace_pc(); }
             void two(void) { other(); __sanitizer_cov_trace_pc(); other(); }
             __attribute__((section(\".init.text\"))) void once(void)
             { __sanitizer_cov_trace_pc(); }
             void _R4core9panicking5panic(void);
             void fails(int x)
             { __sanitizer_cov_trace_pc();
               if (x) { __sanitizer_cov_trace_pc(); _R4core9panicking5panic(); }
               other(); }",
        );
        let found = sites("m", &file).unwrap();
        let names: Vec<_> = found.iter().map(|site| site.function.as_str()).collect();
        assert_eq!(names, ["one", "one", "two", "fails", "fails"]);
        let panics: Vec<_> = found.iter().map(|site| site.is_panic).collect();
        assert_eq!(panics, [false, false, false, false, true]);
        assert_eq!(found[2].section, ".text.two");
        assert!(found[0].offset > 0 && found[0].offset < found[1].offset);
    }

    #[test]
    fn tests_are_known_by_their_names() {
        for name in [
            "accel_core::state::tests::kunit_rust_wrapper_history_has_the_latest",
            "<accel_core::event::Ring>::insert::<accel_core::event::event_tests::Counter>",
        ] {
            assert!(is_test(name), "{name}");
        }
        assert!(!is_test("accel_core::ioctl::common"));
    }

    #[test]
    fn what_is_no_module_is_refused() {
        assert!(sites("m", b"#!/bin/sh\n").is_err());
    }
}
