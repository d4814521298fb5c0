//! What crosses the border between the kernel programs and the agent: the records in the ring, the
//! keys and values of shared maps, and the facts the agent hands over before the programs load.
//! Everything is a plain integer with a fixed layout; behaviour belongs to one of the two sides.
#![no_std]

pub mod connection;
pub mod context;
pub mod control;
pub mod counter;
pub mod frames;
pub mod layout;
pub mod policy;
pub mod record;
pub mod target;
