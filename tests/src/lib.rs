//! The rig: everything an end-to-end test of Gapless needs and the product must never see.
//!
//! Cameras that record ([`camera`]) from one committed clip ([`clip`]), cards as they come out of the
//! field ([`cards`]), footage whose every frame is known ([`media`]), a link that is slow, far away or
//! gone ([`link`]), the real binaries and broker as child processes ([`process`], [`mosquitto`],
//! [`artifacts`]), a camera and a central recorder that record the same encoder at the same time ([`rig`]), all of that put together ([`installation`], or [`depot`] with many devices), and somebody on the broker who means no good
//! ([`stranger`]).
//!
//! Nothing here waits for a state by sleeping, and nothing outlives the value that started it.

pub mod artifacts;
pub mod browser;
pub mod camera;
pub mod cards;
pub mod clip;
pub mod depot;
pub mod installation;
pub mod link;
pub mod media;
pub mod mosquitto;
pub mod naming;
pub mod process;
pub mod relay;
pub mod rig;
pub mod simulation;
pub mod stranger;
