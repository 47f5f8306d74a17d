//! Networks, images and containers made again, and started in their order.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::plan::DockerPart;
use super::report::{Containers, EmptyVolume, Images, Networks, Running, Started};
use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::engines::docker::api::definition::{container_body, container_name, network_body};
use crate::engines::docker::api::{Engine, text};
use crate::engines::docker::{StoredContainer, restore, running};
use crate::operations::Session;

/// Pause between two looks at a container.
const PAUSE: Duration = Duration::from_millis(300);

/// A container that ends sooner than this after its start is told; one under a restart policy would start again and again.
const SETTLE: Duration = Duration::from_secs(2);

/// Makes the networks that are missing. Where a subnet is taken on this host, the engine chooses another.
pub(super) async fn networks(engine: &Engine, part: &DockerPart) -> Result<Networks> {
    let there = engine.networks().await?;
    let mut made = Vec::new();
    for network in &part.definitions.networks {
        let name = text(network, "/Name");
        if there.iter().any(|one| text(one, "/Name") == name) {
            continue;
        }
        if let Err(first) = engine.create_network(network_body(network, true)).await {
            tracing::warn!("{}; trying with other addresses", first.chain());
            engine.create_network(network_body(network, false)).await?;
        }
        made.push(name.to_owned());
    }
    Ok(Networks {
        created: made,
        networks: part.definitions.networks.len(),
    })
}

/// Loads the images that are missing, or pulls those that are not stored.
pub(super) async fn images(engine: &Engine, part: &DockerPart) -> Result<Images> {
    let mut images = Images::default();
    for container in &part.contents.containers {
        if find_image(engine, container).await?.is_some() {
            continue;
        }
        let stored = part.contents.images.iter();
        let mut stored = stored.filter(|image| image.name == container.image);
        if let Some(image) = stored.next() {
            images.bytes += restore::load_image(engine, &part.reader, image).await?;
            images.loaded.push(image.name.clone());
            continue;
        }
        engine.pull_image(&container.image).await.map_err(|error| {
            error.with_hint(
                "Load the image manually and run the same command again; set images = true in the source's \
                 configuration to include images in future snapshots.",
            )
        })?;
        images.pulled.push(container.image.clone());
    }
    Ok(images)
}

/// Returns what to call a container's image here: its name, or its id where the name means nothing.
async fn find_image(engine: &Engine, container: &StoredContainer) -> Result<Option<String>> {
    for name in [&container.image, &container.image_id] {
        if !name.is_empty() && engine.image(name).await?.is_some() {
            return Ok(Some(name.clone()));
        }
    }
    Ok(None)
}

/// Makes the containers that are missing; none is started.
pub(super) async fn create(engine: &Engine, part: &DockerPart) -> Result<Containers> {
    let mut made = Vec::new();
    for definition in &part.definitions.containers {
        let name = container_name(definition);
        if engine.container(name).await?.is_some() {
            continue;
        }
        let mut wanted = container_body(definition, part.definitions.environments.get(name));
        let stored = part.contents.containers.iter().find(|one| one.name == name);
        if let Some(stored) = stored
            && let Some(image) = find_image(engine, stored).await?
            && let Some(body) = wanted.body.as_object_mut()
        {
            body.insert("Image".to_owned(), json!(image));
        }
        join_by_name(&mut wanted.body, part);
        engine.create_container(name, wanted.body).await?;
        for (network, endpoint) in &wanted.further_networks {
            engine.connect_network(network, name, endpoint).await?;
        }
        made.push(name.to_owned());
    }
    Ok(Containers {
        created: made,
        containers: part.definitions.containers.len(),
    })
}

/// A container that shares another's network names it by an id, which is another one now.
fn join_by_name(body: &mut Value, part: &DockerPart) {
    for mode in ["/HostConfig/NetworkMode", "/HostConfig/PidMode", "/HostConfig/IpcMode"] {
        let Some(value) = body.pointer_mut(mode) else { continue };
        let Some(id) = value.as_str().and_then(|text| text.strip_prefix("container:")) else {
            continue;
        };
        let other = part.definitions.containers.iter().find(|one| text(one, "/Id") == id);
        if let Some(other) = other {
            *value = json!(format!("container:{}", container_name(other)));
        }
    }
}

/// Starts the containers that ran when the snapshot was taken: those that others need, or the rest.
pub(super) async fn start(session: &Session, engine: &Engine, part: &DockerPart, first: bool) -> Result<Started> {
    let mut started = Vec::new();
    for container in part.contents.containers.iter().filter(|one| one.running) {
        if part.first.contains(&container.name) == first {
            session.check_cancelled()?;
            engine
                .start(&container.name)
                .await
                .map_err(|error| error.with_hint("Fix the error and run the same command again to continue."))?;
            started.push(container.name.clone());
        }
    }
    Ok(Started { started })
}

/// Waits until every container runs, and is healthy where its image says how to find out.
pub(super) async fn wait(session: &Session, engine: &Engine, part: &DockerPart, within: Duration) -> Result<Running> {
    tokio::time::sleep(SETTLE).await;
    let from = Instant::now();
    let mut up = Running::default();
    for container in part.contents.containers.iter().filter(|one| one.running) {
        loop {
            session.check_cancelled()?;
            let now = engine.container(&container.name).await?;
            let now = now
                .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("container \"{}\" is gone", container.name)))?;
            let health = text(&now, "/State/Health/Status");
            if running(&now) && matches!(health, "" | "none" | "healthy") {
                up.running += 1;
                if health == "healthy" {
                    up.healthy.push(container.name.clone());
                }
                break;
            }
            let ended = !running(&now)
                && text(&now, "/HostConfig/RestartPolicy/Name")
                    .trim_matches('n')
                    .is_empty();
            if ended || from.elapsed() > within {
                let code = now.pointer("/State/ExitCode").and_then(Value::as_i64).unwrap_or(0);
                let state = text(&now, "/State/Status");
                return Err(Error::new(
                    ErrorKind::TimedOut,
                    format!(
                        "container \"{}\" is {state} (health {health:?}, exit code {code})",
                        container.name
                    ),
                )
                .with_hint(format!(
                    "See `docker logs {}`, then run the same command again to continue.",
                    container.name
                )));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(up)
}

/// The command with which a person starts the containers.
pub(super) fn by_hand(part: &DockerPart) -> String {
    let label = |name: &str| {
        let labels = part.definitions.containers.iter();
        let mut found = labels.filter_map(|one| one.pointer("/Config/Labels")?.get(name)?.as_str());
        found.next().map(str::to_owned)
    };
    let Some(project) = label("com.docker.compose.project") else {
        let names: Vec<&str> = part.contents.containers.iter().map(|one| one.name.as_str()).collect();
        return format!("docker start {}", names.join(" "));
    };
    let mut command = "docker compose".to_owned();
    if let Some(directory) = label("com.docker.compose.project.working_dir") {
        command.push_str(&format!(" --project-directory {directory}"));
    }
    let files = label("com.docker.compose.project.config_files");
    for file in files.iter().flat_map(|files| files.split(',')) {
        command.push_str(&format!(" -f {file}"));
    }
    format!("{command} -p {project} up -d")
}

/// Makes a volume without content.
pub(super) async fn empty_volume(engine: &Engine, part: &DockerPart, name: &str) -> Result<EmptyVolume> {
    if engine.volume(name).await?.is_some() {
        return Ok(EmptyVolume { created: false });
    }
    let definition = part.definitions.volumes.iter().find(|one| text(one, "/Name") == name);
    let body = definition.map_or_else(
        || json!({ "Name": name }),
        crate::engines::docker::api::definition::volume_body,
    );
    engine
        .create_volume(body)
        .await
        .context("create a volume for a database")?;
    Ok(EmptyVolume { created: true })
}
