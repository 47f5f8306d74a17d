//! A container that is never started: through it the engine reads and writes a volume that nothing else has.

use serde_json::{Value, json};

use crate::base::error::{ErrorKind, Result};
use crate::engines::docker::api::Engine;
use crate::engines::docker::api::definition::label;

/// The label of helper containers.
const LABEL: &str = "wirevault.helper";
/// An image without files; it is removed with the helper.
const IMAGE: &str = "wirevault-helper";
/// Where the volume is mounted in it.
pub(super) const MOUNT: &str = "/volume";

/// A helper container with one volume.
#[derive(Debug)]
pub(super) struct Helper {
    engine: Engine,
    pub(super) id: String,
}

/// Returns whether a container is a helper, of this run or of one that was killed.
pub(super) fn is_helper(container: &Value) -> bool {
    label(container, LABEL).is_some()
}

impl Helper {
    /// Makes a helper that has a volume at [`MOUNT`].
    pub(super) async fn create(engine: &Engine, volume: &str, writable: bool) -> Result<Self> {
        let ending = if writable { "" } else { ":ro" };
        let body = json!({
            "Image": IMAGE,
            "Cmd": ["never-started"],
            "Labels": { LABEL: "1" },
            "NetworkDisabled": true,
            "HostConfig": { "Binds": [format!("{volume}:{MOUNT}{ending}")], "NetworkMode": "none" },
        });
        let name = format!("wirevault-helper-{:08x}", rand::random::<u32>());
        // Another run may remove the image between the two calls.
        let mut tries = 0;
        loop {
            tries += 1;
            if engine.image(IMAGE).await?.is_none() {
                engine.import_empty_image(IMAGE).await?;
            }
            match engine.create_container(&name, body.clone()).await {
                Ok(id) => {
                    return Ok(Self {
                        engine: engine.clone(),
                        id,
                    });
                }
                Err(error) if error.kind() == ErrorKind::NotFound && tries < 3 => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes the helper, and its image unless another helper has it.
    pub(super) async fn remove(self) {
        if let Err(error) = self.engine.remove_container(&self.id).await {
            tracing::warn!("{}", error.chain());
        }
        let _ = self.engine.remove_image(IMAGE).await;
    }
}
