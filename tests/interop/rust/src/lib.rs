//! Servers and clients of the tests' exercise, in the style of protosocket's users.
//!
//! Each program is one of two things: `PROGRAM server ADDRESS` prints `ready` and serves;
//! `PROGRAM client ADDRESS` connects, prints `ready`, does what the lines of its standard input
//! say, and answers in lines.

pub mod arguments;
pub mod broken;
pub mod documented;
pub mod driver;
pub mod exercise;
pub mod notes;
pub mod own;
pub mod transport;

/// What prost and the plugin have generated, in the modules of its packages.
#[allow(missing_debug_implementations)]
pub mod proto {
    pub mod interop {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/interop.v1.rs"));
            include!("../generated/exercise_protosocket.rs");
        }
    }
    // As docs/generated-code.md has it, from here to the end of the next module.
    pub mod greeter {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/greeter.v1.rs"));
            include!("../generated/greeter/v1/greeter_protosocket.rs");
        }
    }
    pub mod protosocket {
        pub mod rpc {
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/protosocket.rpc.v1.rs"));
                include!("../generated/protosocket_frame.rs");
            }
        }
    }
    // Names that are hard to get right: that they compile is all there is to it.
    pub mod acme {
        pub mod greeter {
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/acme.greeter.v1.rs"));
                include!("../../../codegen/rust/out/greeter_protosocket.rs");
            }
        }
        pub mod other {
            include!(concat!(env!("OUT_DIR"), "/acme.other.rs"));
        }
    }
}

/// The codec of a connection: encodes one type of message, decodes another.
pub type Prost<Outbound, Inbound> = (
    protosocket::PooledEncoder<protosocket_prost::ProstSerializer<Outbound>>,
    protosocket_prost::ProstDecoder<Inbound>,
);

/// What the programs end with.
pub type Outcome = Result<(), Box<dyn std::error::Error>>;
