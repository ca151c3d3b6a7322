//! Messages by prost. The typed services that go with them are in `generated/`, where the plugin
//! of this project has written them.

use std::{env, io, path::Path};

fn main() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let includes = [
        root.join("proto"),
        root.join("tests/interop/protos"),
        root.join("tests/codegen/rust"),
        root.join("examples/codegen/protos"),
        root.join("examples/own_messages"),
    ];
    let protos = [
        "protosocket/rpc/v1/frame.proto",
        "exercise.proto",
        "greeter.proto",
        "greeter/v1/greeter.proto",
        "ticker.proto",
    ];
    prost_build::compile_protos(&protos, &includes)
}
