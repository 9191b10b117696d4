// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds the models that come with the package `microflow` (MIT OR Apache-2.0), which cargo has
//! fetched, checks that they are the expected ones, and says where they are: the program has them
//! built in.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};

const PACKAGE: &str = "microflow";

/// File in the package, and its SHA-256.
const MODELS: [(&str, &str); 3] = [
    (
        "person_detect",
        "808cfdfc0cf3a6fa6f6fa26bfa379ea97c16d5db7334637766e39c3408502e9d",
    ),
    (
        "speech",
        "09e5e2a9dfb2d8ed78802bf18ce297bff54281a66ca18e0c23d69ca14f822a83",
    ),
    (
        "sine",
        "780cc6ff8ecec39193e3f32a877af73385c9d6abc39f47d0e846a22d808f65df",
    ),
];

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=Cargo.toml");
    let folder = package()?.join("models");
    for (name, expected) in MODELS {
        let file = folder.join(format!("{name}.tflite"));
        println!("cargo::rerun-if-changed={}", file.display());
        let bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        let sum = format!("{:x}", Sha256::digest(&bytes));
        ensure!(
            sum == expected,
            "{} has the SHA-256 {sum} and not {expected}",
            file.display()
        );
    }
    println!("cargo::rustc-env=ACCEL_RUN_MODELS={}", folder.display());
    Ok(())
}

/// Where cargo keeps the source of the package.
fn package() -> Result<PathBuf> {
    // What is fetched already is enough, if it is all; crates of other systems may not be.
    let metadata = metadata(&["--offline"]).or_else(|_| metadata(&[]))?;
    let manifest = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == PACKAGE)
        .and_then(|package| package["manifest_path"].as_str())
        .with_context(|| format!("cargo metadata does not tell of {PACKAGE}"))?;
    let folder = Path::new(manifest).parent();
    Ok(folder.context("a manifest without a folder")?.to_owned())
}

fn metadata(more: &[&str]) -> Result<Value> {
    let cargo = env::var_os("CARGO").context("cargo does not say what it is")?;
    let here = env::var_os("CARGO_MANIFEST_DIR").context("cargo does not say where this is")?;
    let done = Command::new(cargo)
        .args(["metadata", "--locked", "--format-version=1"])
        .arg("--manifest-path")
        .arg(Path::new(&here).join("Cargo.toml"))
        .args(more)
        .output()
        .context("starting cargo metadata")?;
    if !done.status.success() {
        bail!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
    serde_json::from_slice(&done.stdout).context("cargo metadata")
}
