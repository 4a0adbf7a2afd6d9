"""A Linux camera is updated over the air: a real hub, `patrolink ota`, a delta, slots and service."""

import json
import os
import pty
import shutil

import pytest
from patrolink.cli import main
from patrolink.core import boards
from patrolink.flash.image import build, image_file, module_archive, release_key

from tests.support.flash_images import write_signed_image
from tests.support.hub_process import ProvisionedHub, free_ports
from tests.support.linux_camera import LINUX, LinuxCamera, build_package, use_session
from tests.support.polling import wait_until
from tests.support.provision_site import ProvisionedSite
from tests.support.release_keys import TRUST, private_key
from tests.support.setup_plan import is_installed


@pytest.mark.skipif(not is_installed("dpkg-deb"), reason="dpkg is not installed")
def test_camera_fetches_installs_and_confirms_a_delta(tmp_path, broker, capsys, monkeypatch):
    receiver, line = pty.openpty()
    floor, media = free_ports(2)
    site = ProvisionedSite(
        tmp_path,
        top='release_keys = "trust.pem"',
        port=broker.port,
        floor=floor,
        media=media,
        gps=os.ttyname(line),
    )
    shutil.copyfile(TRUST, tmp_path / "trust.pem")
    site.write_table("S-1,camera-1,Harbour circle,linux,,\n")
    assert site.run() == 0
    camera = LinuxCamera(tmp_path / "camera", build_package(tmp_path / "package", TRUST), None)
    shutil.copy(site.out / "camera-1" / "config.json", camera.root / "etc/patrolink/config.json")
    old = build.build_agent(boards.find("linux"), build.BuildInfo("1.0.0", 1, 1))
    files = module_archive.read(old.payload)
    paths = [
        write_signed_image(tmp_path / f"{version}.plimg", module_archive.write(content), **LINUX, version=version)
        for version, content in (("1.0.0", files), ("1.1.0", {**files, "notes.txt": b"new"}))
    ]
    delta = build.build_delta(*(image_file.load(path) for path in paths))
    image_file.save(tmp_path / "delta.plimg", delta._replace(header=release_key.sign(delta.header, private_key())))
    use_session(camera, tmp_path, monkeypatch)
    hub = ProvisionedHub(tmp_path)

    def ota(*words: str) -> list[dict]:
        capsys.readouterr()
        assert main(["ota", *words, "--site", str(tmp_path / "site.toml"), "--json"]) == 0, capsys.readouterr()
        return [json.loads(text) for text in capsys.readouterr().out.splitlines()]

    try:
        assert main(["flash", str(paths[0]), camera.name, "--trust", str(TRUST)]) == 0
        wait_until(lambda: camera.journal.state.slots[0].confirmed, camera.text)
        ota("plan", "spring", str(tmp_path / "delta.plimg"), "--device", "camera-1")
        ota("start", "spring")
        wait_until(lambda: camera.journal.state.slots[1].confirmed, camera.text)
        assert camera.lines("slot ") == ["slot a, on trial", "slot b, on trial"]
        assert camera.lines("update: version 1.1.0, requested by ")

        def ended() -> bool:
            return any(row.get("update_state") == "confirmed" for row in ota("status", "spring"))

        wait_until(ended, camera.text)
    finally:
        camera.close()
        hub.kill()
        os.close(receiver)
        os.close(line)
