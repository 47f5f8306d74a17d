//! Docker volumes and definitions, against a real engine.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::docker::{DockerEngine, command_as_root, expect_as_root};
use crate::support::program::{Program, assert_one_error, files_below, noise};
use crate::support::shape::shape_lines;
use crate::support::wait::until;

/// Fills a volume with what a tree can hold.
fn fill(root: &Path) {
    std::fs::create_dir_all(root.join("a/deep/er")).unwrap();
    std::fs::create_dir_all(root.join("empty")).unwrap();
    std::fs::write(root.join("a.txt"), "sorts before a/ and after a").unwrap();
    std::fs::write(root.join("a/one"), noise(100_000)).unwrap();
    std::fs::hard_link(root.join("a/one"), root.join("z-link")).unwrap();
    symlink("a/one", root.join("soft")).unwrap();
    std::fs::write(root.join("a/deep/er/big"), noise(9 << 20)).unwrap();
    std::fs::write(root.join("run.sh"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(root.join("run.sh"), std::fs::Permissions::from_mode(0o4751)).unwrap();
    std::os::unix::fs::chown(root.join("a/one"), Some(1234), Some(70_000)).unwrap();
    std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o750)).unwrap();
    std::os::unix::fs::chown(root, Some(999), Some(998)).unwrap();
    let long = format!("a/{}/{}", "d".repeat(90), "f".repeat(120));
    std::fs::create_dir_all(root.join(&long).parent().unwrap()).unwrap();
    std::fs::write(root.join(&long), "long").unwrap();
    let ninety = format!("a/{}/short", "e".repeat(98));
    std::fs::create_dir_all(root.join(&ninety).parent().unwrap()).unwrap();
    std::fs::write(root.join(&ninety), "a name that ustar cuts in two").unwrap();
    let holes = std::fs::File::create(root.join("holes")).unwrap();
    holes.set_len(3 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&holes, b"island", 1 << 20).unwrap();
}

/// Path, kind and mode, owner, seconds, content, names.
type Seen = (PathBuf, u32, (u32, u32), i64, Vec<u8>, u64);

/// What is compared: path, kind and mode, owner, whole seconds of the time, content or target, number of names.
fn picture(root: &Path) -> Vec<Seen> {
    let (mut found, mut waiting) = (Vec::new(), vec![root.to_owned()]);
    while let Some(path) = waiting.pop() {
        let meta = path.symlink_metadata().unwrap();
        let content = if meta.is_symlink() {
            path.read_link().unwrap().into_os_string().into_encoded_bytes()
        } else if meta.is_file() {
            std::fs::read(&path).unwrap()
        } else {
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        };
        let names = if meta.is_dir() { 0 } else { meta.nlink() };
        found.push((
            path.strip_prefix(root).unwrap().to_owned(),
            meta.mode(),
            (meta.uid(), meta.gid()),
            meta.mtime(),
            content,
            names,
        ));
    }
    found.sort();
    found
}

fn same(left: &Path, right: &Path) {
    let (left, right) = (picture(left), picture(right));
    assert_eq!(
        left.iter()
            .map(|one| (&one.0, one.1, one.2, one.3, one.5))
            .collect::<Vec<_>>(),
        right
            .iter()
            .map(|one| (&one.0, one.1, one.2, one.3, one.5))
            .collect::<Vec<_>>()
    );
    assert!(left == right, "some content differs");
}

fn create_volume(engine: &DockerEngine, name: &str, labels: &Value) {
    engine.post("/volumes/create", &json!({ "Name": name, "Labels": labels }));
}

#[test]
fn a_volume_goes_there_and_back_by_mount_point_and_by_archive() {
    let Some(engine) = DockerEngine::start() else { return };
    create_volume(&engine, "uploads", &json!({ "tier": "1" }));
    fill(&engine.volume("uploads"));
    create_volume(&engine, "empty", &Value::Null);
    for way in ["", "?access=archive"] {
        let before = tempfile::tempdir().unwrap();
        let copy = before.path().join("copy");
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .arg(engine.volume("uploads"))
            .arg(&copy)
            .status();
        assert!(copied.unwrap().success());
        let program = Program::on_directory();
        let url = format!("{}{way}", engine.url());
        expect_as_root(&program, 0, &["backup", &url]);
        expect_as_root(&program, 0, &["verify", "latest", "--level", "content"]);
        let shown = program.json(&["show", "latest"]);
        let notes = &shown["snapshot"]["sources"][0]["outcome"]["note_counts"]["read-by-archive"];
        assert_eq!(notes.as_u64(), if way.is_empty() { None } else { Some(2) });
        let definitions = program.expect(0, &["cat", "latest", "docker", "definitions/volumes.json"]);
        assert!(definitions.contains("\"tier\": \"1\""), "{definitions}");

        // As plain trees.
        expect_as_root(&program, 0, &["restore", "latest", "--into", "out"]);
        same(&copy, &program.path("out/uploads"));
        assert!(program.path("out/empty").is_dir());

        // Back into the engine that lost them.
        engine.delete("/volumes/uploads");
        engine.delete("/volumes/empty");
        let planned = expect_as_root(&program, 0, &["restore", "latest", "--dry-run", "--json"]);
        insta::assert_snapshot!("json_of_a_dry_run", shape_lines(&planned.stdout));
        let restored = expect_as_root(&program, 0, &["restore", "latest", "--json"]);
        insta::assert_snapshot!("json", shape_lines(&restored.stdout));
        same(&copy, &engine.volume("uploads"));
        let made = engine.get("/volumes/uploads");
        assert_eq!(made["Labels"]["tier"], "1");

        // What holds files is refused, and under another name it is no trouble.
        let refused = command_as_root(&program, &["restore", "latest", "--volume", "uploads"])
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(1));
        assert_one_error(
            &String::from_utf8_lossy(&refused.stderr),
            "already contains files",
            "--clean",
        );
        let other = format!("docker:other{}", way.len());
        expect_as_root(
            &program,
            1,
            &["restore", "latest", "--volume", "uplaods", "--into", &other],
        );
        let into = format!("{}?volume=other{}", engine.url(), way.len());
        expect_as_root(
            &program,
            0,
            &["restore", "latest", "--volume", "uploads", "--into", &into],
        );
        same(&copy, &engine.volume(&format!("other{}", way.len())));

        // One file alone, over what is there.
        std::fs::write(engine.volume("uploads").join("a/one"), "damaged").unwrap();
        std::fs::write(engine.volume("uploads").join("new"), "stays").unwrap();
        let one = ["restore", "latest", "--volume", "uploads", "--path", "a/one"];
        let refused = command_as_root(&program, &one).output().unwrap();
        assert_eq!(refused.status.code(), Some(1));
        let words = if way.is_empty() {
            "\"a/one\" differs"
        } else {
            "\"a/one\" is in the volume already"
        };
        assert_one_error(&String::from_utf8_lossy(&refused.stderr), words, "--clean");
        assert_eq!(
            std::fs::read(engine.volume("uploads").join("a/one")).unwrap(),
            b"damaged"
        );
        expect_as_root(
            &program,
            0,
            &["restore", "latest", "--volume", "uploads", "--path", "a/one", "--clean"],
        );
        assert_eq!(
            std::fs::read(engine.volume("uploads").join("a/one")).unwrap(),
            std::fs::read(copy.join("a/one")).unwrap()
        );
        expect_as_root(&program, 0, &["restore", "latest", "--volume", "uploads", "--clean"]);
        assert!(engine.volume("uploads").join("new").exists());
        std::fs::remove_file(engine.volume("uploads").join("new")).unwrap();
        let helpers = engine.get("/containers/json?all=1");
        assert_eq!(helpers.as_array().unwrap().len(), 0, "{helpers}");
        let images = engine.get("/images/json");
        assert_eq!(images.as_array().unwrap().len(), 0, "{images}");
        engine.delete(&format!("/volumes/other{}", way.len()));
    }
}

#[test]
fn definitions_are_stored_whole_and_environments_apart() {
    let Some(engine) = DockerEngine::start() else { return };
    engine.import_busybox();
    create_volume(&engine, "data", &json!({ "backup": "yes" }));
    create_volume(&engine, "cache", &Value::Null);
    engine.post(
        "/networks/create",
        &json!({ "Name": "shop_default", "Driver": "bridge", "Labels": { "net": "1" } }),
    );
    let labels = json!({ "Labels": { "com.docker.compose.project": "shop", "com.docker.compose.service": "api" },
        "Env": ["PASSWORD=geheim"], "HostConfig": { "Binds": ["data:/data", "cache:/data/cache"], "NetworkMode": "shop_default",
        "RestartPolicy": { "Name": "unless-stopped" } } });
    let mut config = json!({ "Image": "busybox:1", "Cmd": ["sleep", "1000"] });
    for (key, value) in labels.as_object().unwrap() {
        config[key] = value.clone();
    }
    engine.post("/containers/create?name=shop-api-1", &config);
    engine.post(
        "/containers/create?name=other",
        &json!({ "Image": "busybox:1", "Cmd": ["sleep", "1"] }),
    );
    std::fs::write(engine.volume("data").join("file"), "in data").unwrap();
    std::fs::write(engine.volume("cache").join("file"), "in cache").unwrap();
    let program = Program::on_directory();
    // The archive API of a container that has another mount within would show that too: a helper is taken.
    let url = format!("{}?label=backup=yes&images&access=archive", engine.url());
    expect_as_root(&program, 0, &["backup", &url]);
    let containers = program.expect(0, &["cat", "latest", "docker", "definitions/containers.json"]);
    assert!(containers.contains("unless-stopped") && containers.contains("com.docker.compose.service"));
    assert!(!containers.contains("geheim") && !containers.contains("\"/other\""));
    let networks = program.expect(0, &["cat", "latest", "docker", "definitions/networks.json"]);
    assert!(networks.contains("shop_default"));
    let environment = program.expect(0, &["cat", "latest", "docker", "protected/environment.json"]);
    assert!(environment.contains("PASSWORD=geheim"));
    assert!(!program.expect(0, &["show", "latest", "--json"]).contains("geheim"));
    expect_as_root(&program, 0, &["restore", "latest", "--into", "out"]);
    assert!(program.path("out/data/file").exists() && !program.path("out/data/cache/file").exists());
    assert!(!program.path("out/cache").exists());

    // The image is what `docker save` writes: another engine loads it.
    let image = program
        .run(&["cat", "latest", "docker", "images/00000.busybox_1"])
        .stdout;
    engine.delete("/containers/shop-api-1");
    engine.delete("/containers/other");
    engine.delete("/images/busybox:1");
    let (status, body) = engine.try_call("POST", "/images/load", Some(("application/x-tar", &image)));
    assert_eq!(status, 200);
    assert!(String::from_utf8_lossy(&body).contains("busybox:1"));
    engine.get("/images/busybox:1/json");
}

#[test]
fn containers_stand_still_while_volumes_are_read_and_run_again_whatever_happens() {
    let Some(engine) = DockerEngine::start() else { return };
    engine.import_busybox();
    create_volume(&engine, "data", &Value::Null);
    let service = json!({ "Labels": { "com.docker.compose.service": "api" } });
    engine.run_idle("shop-api-1", &["data:/data"], &service);
    engine.run_idle("stubborn", &["data:/data"], &json!({ "Cmd": ["/bin/sleep", "100000"] }));
    engine.post(
        "/containers/create?name=resting",
        &json!({ "Image": "busybox:1", "Cmd": ["sleep", "1"] }),
    );
    std::fs::write(engine.volume("data").join("file"), noise(30 << 20)).unwrap();
    let program = Program::on_directory();
    let spool = program.path("spool");
    std::fs::create_dir(&spool).unwrap();
    let config = |more: &str| {
        let text = format!(
            "spool_dir = \"spool\"\n[source.v]\nkind = \"docker\"\nsocket = \"{}\"\nvolumes = [\"data\"]\n{more}\n[job.j]\nsources = [\"v\"]\n",
            engine.socket().display()
        );
        std::fs::write(program.path("wirevault.toml"), text).unwrap();
    };

    // By the name of the service; it was stopped, and runs again.
    config("quiesce = [\"api\", \"resting\"]");
    let (first, other) = (engine.started_at("shop-api-1"), engine.started_at("stubborn"));
    expect_as_root(&program, 0, &["backup"]);
    assert!(engine.is_running("shop-api-1") && engine.started_at("shop-api-1") != first);
    assert!(!engine.is_running("resting"));
    assert_eq!(engine.started_at("stubborn"), other);
    assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 0);

    // One that does not stop is not killed, and the others run again. On a busy machine the other one may be the slow one:
    // then there was too little time for either.
    let mut seconds = 2;
    let said = loop {
        config(&format!(
            "quiesce = [\"api\", \"stubborn\"]\nstop_timeout = \"{seconds}s\""
        ));
        let refused = command_as_root(&program, &["backup"]).output().unwrap();
        assert_eq!(refused.status.code(), Some(1));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            engine.is_running("shop-api-1") && engine.is_running("stubborn"),
            "{said}"
        );
        if !said.contains("\"shop-api-1\" did not stop") {
            break said;
        }
        seconds *= 2;
        assert!(seconds < 600, "{said}");
    };
    let message = format!("\"stubborn\" did not stop within {seconds} s");
    assert_one_error(&said, &message, "kill = true");
    assert!(engine.is_running("shop-api-1") && engine.is_running("stubborn"));
    assert_eq!(engine.started_at("stubborn"), other);
    config("quiesce = [\"api\", \"stubborn\"]\nstop_timeout = \"1s\"\nkill = true");
    expect_as_root(&program, 0, &["backup"]);
    assert!(engine.is_running("stubborn") && engine.started_at("stubborn") != other);

    // A signal, and then SIGKILL, in the middle of reading: the repository takes 2 MiB/s, and what is read ahead of it is
    // less than the volume.
    std::fs::write(engine.volume("data").join("file"), noise(160 << 20)).unwrap();
    config("quiesce = [\"api\"]\n[repository]\nurl = \"./slow\"\nrate_limit = \"2MiB/s\"");
    let stored = |program: &Program| {
        let files = files_below(&program.path("slow"));
        files.iter().map(|(_, bytes)| bytes).sum::<u64>()
    };
    let slow = |signal: rustix::process::Signal| {
        let before = stored(&program);
        let mut command = command_as_root(&program, &["backup"]);
        command
            .env_remove("WIREVAULT_REPOSITORY")
            .args(["--memory-limit", "96MiB"])
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        until("it is stopped", || !engine.is_running("shop-api-1"));
        // The first bytes are in the repository: what follows takes a minute at that rate.
        until("something is read", || stored(&program) > before + (256 << 10));
        assert!(!engine.is_running("shop-api-1"));
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        child.wait().unwrap()
    };
    assert_eq!(slow(rustix::process::Signal::TERM).code(), Some(1));
    assert!(engine.is_running("shop-api-1"));
    slow(rustix::process::Signal::KILL);
    assert!(!engine.is_running("shop-api-1"));
    std::fs::write(engine.volume("data").join("file"), noise(30 << 20)).unwrap();
    // The next run starts what the killed one left.
    config("");
    expect_as_root(&program, 0, &["backup"]);
    assert!(engine.is_running("shop-api-1"));
    assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 0);

    // Around a restore too.
    config("quiesce = [\"api\"]");
    expect_as_root(&program, 0, &["backup"]);
    let before = engine.started_at("shop-api-1");
    std::fs::write(engine.volume("data").join("file"), "damaged").unwrap();
    expect_as_root(&program, 0, &["restore", "latest", "--clean"]);
    assert_eq!(
        std::fs::metadata(engine.volume("data").join("file")).unwrap().len(),
        30 << 20
    );
    assert!(engine.is_running("shop-api-1") && engine.started_at("shop-api-1") != before);
}

#[test]
fn what_is_wrong_is_said_with_a_hint() {
    let program = Program::on_directory();
    program.refused(
        &["backup", "docker:///nowhere/docker.sock"],
        "no Docker engine",
        "mount it",
    );
    std::fs::write(program.path("left.sock"), "").unwrap();
    drop(std::os::unix::net::UnixListener::bind(program.path("old.sock")).unwrap());
    let old = format!("docker://{}", program.path("old.sock").display());
    program.refused(&["backup", &old], "no Docker engine is listening", "start the engine");
    program.refused(
        &["backup", "docker://host:2375/"],
        "docker:tcp://host:2375",
        "docker:///run/docker.sock",
    );
    let Some(engine) = DockerEngine::start() else { return };
    create_volume(&engine, "uploads", &Value::Null);
    let url = |query: &str| format!("{}?{query}", engine.url());
    program.refused(
        &["backup", &url("volume=uplaods")],
        "no volume \"uplaods\"",
        "\"uploads\"",
    );
    program.refused(
        &["backup", &url("volume=uploads&quiesce=api")],
        "no container \"api\"",
        "no containers at all",
    );
    program.refused(
        &["backup", &url("label=a=b")],
        "no volume and no container",
        "docker volume",
    );
    // Without the right to the socket.
    let mut command = std::process::Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(assert_cmd::cargo::cargo_bin("wirevault"))
        .args(["check", &engine.url()]);
    program.equip(&mut command);
    std::fs::set_permissions(program.place.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::set_permissions(engine.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("no permission to use") && said.contains("group that owns the socket"),
        "{said}"
    );
    // What `check` says of a volume.
    let said = program.expect(0, &["check", &engine.url()]);
    assert!(
        said.contains("Docker 20") && said.contains("volume \"uploads\""),
        "{said}"
    );
}
