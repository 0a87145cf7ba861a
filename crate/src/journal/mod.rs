//! The journal on disk: frames in files ([`frames`]), their contents ([`format_v1`]), logs with cursors ([`log`],
//! [`cursor`]), and the order of writes and reads ([`store`]).

pub mod cursor;
pub mod files;
pub mod format_v1;
mod frames;
pub mod log;
pub mod pieces;
mod recovery;
mod segment;
mod store;

pub use self::frames::{
    FILE_HEADER, FRAME_HEADER, Foreign, Frame, MAX_PAYLOAD, Reader, Recovered, VERSION, append,
    append_frame, begin_file, frames, read,
};
pub use self::recovery::Found;
pub use self::store::{Journal, Writes};
