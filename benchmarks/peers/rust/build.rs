//! Messages by prost, services by tonic; those of protosocket are in `$GENERATED`.

use std::{env, io, path::Path};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=GENERATED");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let includes = [root.join("proto"), root.join("benchmarks/proto")];
    let protos = ["protosocket/rpc/v1/frame.proto", "echo.proto"];
    tonic_prost_build::configure().compile_protos(&protos.map(std::path::PathBuf::from), &includes)
}
