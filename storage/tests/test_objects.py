import base64
import threading
import time
from pathlib import Path

import pytest
import requests
from django.core.files.base import ContentFile

from storage.objects import (
    MAX_OBJECT_BYTES,
    PROBES,
    EmbeddedStorage,
    ObjectConflict,
    ObjectMissing,
    ObjectUnavailable,
    key_store,
    new_object_name,
)
from storage.r2 import R2Storage

BODY = bytes(range(256))


@pytest.fixture(params=["embedded", "r2"])
def store(request, objects):
    return objects if request.param == "embedded" else request.getfixturevalue("r2")


# --- What both stores promise ----------------------------------------------------------------------------------------


def test_what_was_put_is_got_back(store):
    name = new_object_name()
    store.put(name, BODY)
    assert store.get(name) == BODY


def test_writing_the_same_again_is_harmless(store):
    name = new_object_name()
    store.put(name, BODY)
    store.put(name, BODY)
    assert store.get(name) == BODY


def test_writing_other_bytes_under_a_taken_name_is_refused(store):
    name = new_object_name()
    store.put(name, BODY)
    with pytest.raises(ObjectConflict, match="another object has this name"):
        store.put(name, b"other")
    assert store.get(name) == BODY


def test_djangos_save_keeps_the_same_rule(store):
    name = new_object_name()
    assert store._save(name, ContentFile(BODY)) == name
    with pytest.raises(ObjectConflict):
        store._save(name, ContentFile(b"other"))


def test_a_missing_object_is_named_so(store):
    with pytest.raises(ObjectMissing, match="not in the store"):
        store.get(new_object_name())


def test_a_deleted_object_is_gone_and_deleting_it_again_is_harmless(store):
    name = new_object_name()
    store.put(name, BODY)
    store.delete(name)
    store.delete(name)
    with pytest.raises(ObjectMissing):
        store.get(name)


def test_the_names_of_all_objects_are_listed_without_probes(store):
    before, names = set(store.names()), {new_object_name() for _ in range(3)}
    for name in (*names, f"{PROBES}1"):
        store.put(name, BODY)
    assert set(store.names()) - before == names


def test_an_object_that_is_too_large_is_not_read(store):
    name = new_object_name()
    store.put(name, bytes(MAX_OBJECT_BYTES + 1))
    with pytest.raises(ObjectUnavailable, match="too large"):
        store.get(name)


def test_of_racing_writers_one_wins_and_the_others_are_told(store):
    name, outcomes = new_object_name(), []
    start = threading.Barrier(6)

    def write(number):
        start.wait()
        try:
            store.put(name, b"writer %d" % number)
            outcomes.append(number)
        except ObjectConflict:
            outcomes.append(None)

    threads = [threading.Thread(target=write, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [outcome for outcome in outcomes if outcome is not None]
    assert len(outcomes) == 6
    assert store.get(name) == b"writer %d" % winner


def test_names_are_random_and_say_nothing():
    names = {new_object_name() for _ in range(100)}
    assert len(names) == 100
    assert all(len(name) == 40 and name.isalnum() for name in names)


# --- Files -----------------------------------------------------------------------------------------------------------


def test_the_settings_without_a_bucket_choose_files(objects):
    assert key_store() is objects
    assert isinstance(objects, EmbeddedStorage)
    assert objects.signed_url("name", 900) is None


def test_a_file_appears_whole_and_only_for_its_owner(objects):
    objects.put("name", BODY)
    folder = Path(objects.location)
    assert [path.name for path in folder.iterdir()] == ["name"]
    assert (folder / "name").stat().st_mode & 0o777 == 0o600


def test_a_write_that_breaks_off_leaves_neither_a_file_nor_a_draft(objects, monkeypatch):
    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("storage.objects.os.fsync", full_disk)
    with pytest.raises(ObjectUnavailable, match="put: OSError"):
        objects.put("name", BODY)
    assert list(Path(objects.location).iterdir()) == []


def test_file_and_folder_reach_the_disk_before_a_write_counts(objects, monkeypatch):
    flushed = []
    monkeypatch.setattr("storage.objects.os.fsync", flushed.append)
    objects.put("name", BODY)
    assert len(flushed) == 2


def test_a_name_cannot_leave_the_folder(objects):
    with pytest.raises(Exception, match="outside of the base path"):
        objects.put("../escape", BODY)


# --- R2, as a real S3 server -----------------------------------------------------------------------------------------


def test_an_object_is_stored_as_opaque_bytes_to_be_saved(r2, s3):
    name = new_object_name()
    r2.put(name, BODY)
    head = s3.client().head_object(Bucket=s3.bucket, Key=name)
    assert (head["ContentType"], head["ContentLength"]) == ("application/octet-stream", 256)
    assert (head["ContentDisposition"], head["CacheControl"]) == ("attachment", "no-store")
    assert head["Metadata"] == {}


def test_a_signed_link_opens_this_object_without_credentials(r2):
    name = new_object_name()
    r2.put(name, BODY)
    answer = requests.get(r2.signed_url(name, 60), timeout=60)
    assert (answer.status_code, answer.content) == (200, BODY)


def test_a_link_without_or_with_a_changed_signature_is_refused(r2):
    name, other = new_object_name(), new_object_name()
    r2.put(name, BODY)
    r2.put(other, BODY)
    url = r2.signed_url(name, 60)
    changed = [url.partition("?")[0], url.replace("Expires=60", "Expires=900"), url.replace(name, other), url[:-1]]
    assert [requests.get(link, timeout=60).status_code for link in changed] == [403, 403, 403, 403]
    assert requests.put(url, data=b"mine", timeout=60).status_code == 403


def test_a_signed_link_ends(r2):
    name = new_object_name()
    r2.put(name, BODY)
    url = r2.signed_url(name, 1)
    time.sleep(2.1)
    answer = requests.get(url, timeout=60)
    assert answer.status_code == 403
    assert "expired" in answer.text


def test_wrong_credentials_are_no_answer_but_are_named(r2, s3):
    wrong = R2Storage(bucket_name=s3.bucket, endpoint_url=s3.endpoint, access_key=s3.access_key, secret_key="wrong")
    with pytest.raises(ObjectUnavailable, match="put: the object store answered 403 SignatureDoesNotMatch"):
        wrong.put(new_object_name(), BODY)


def test_a_missing_bucket_is_not_a_missing_object(s3):
    nowhere = R2Storage(
        bucket_name="nowhere", endpoint_url=s3.endpoint, access_key=s3.access_key, secret_key=s3.secret_key
    )
    with pytest.raises(ObjectUnavailable, match="404 NoSuchBucket"):
        nowhere.get("name")


# --- R2, as a server that fails --------------------------------------------------------------------------------------


def test_one_write_is_one_conditional_request_in_the_way_r2_wants_it(stub):
    key_store().put("name", BODY)
    assert stub.calls == ["PUT"]
    assert stub.headers["If-None-Match"] == "*"
    assert "/auto/s3/aws4_request" in stub.headers["Authorization"]
    assert not [name for name in stub.headers if "checksum" in name.lower() or name.lower() == "x-amz-acl"]


def test_a_write_whose_answer_was_lost_succeeds_by_comparing(stub):
    stub.fail("PUT", "drop the answer")
    key_store().put("name", BODY)
    assert stub.calls == ["PUT", "PUT", "GET"]
    assert stub.objects == {"/keys/name": BODY}


def test_a_write_whose_answer_was_lost_and_whose_object_was_changed_is_a_conflict(stub):
    stub.fail("PUT", "drop the answer")
    stub.fail("GET", "flip a bit")
    with pytest.raises(ObjectConflict):
        key_store().put("name", BODY)


def test_a_server_error_is_tried_twice_and_then_reported(stub):
    stub.fail("PUT", "503", "503")
    with pytest.raises(ObjectUnavailable, match="put: the object store answered 503 ServiceUnavailable"):
        key_store().put("name", BODY)
    assert stub.calls == ["PUT", "PUT"]


def test_one_server_error_is_overcome(stub):
    stub.fail("PUT", "503")
    key_store().put("name", BODY)
    assert stub.calls == ["PUT", "PUT"]


def test_a_body_shorter_than_announced_is_no_answer(stub):
    key_store().put("name", BODY)
    stub.fail("GET", "cut")
    with pytest.raises(ObjectUnavailable, match="get: "):
        key_store().get("name")


def test_a_store_that_is_away_is_reported_without_its_address(stub):
    gone = R2Storage(**{**stub.options, "endpoint_url": "http://127.0.0.1:9"})
    for call in (lambda: gone.put("name", BODY), lambda: gone.get("name"), lambda: gone.delete("name")):
        with pytest.raises(ObjectUnavailable) as caught:
            call()
        assert "127.0.0.1" not in str(caught.value)
        assert "name" not in str(caught.value)


def test_a_failed_removal_is_reported(stub):
    stub.fail("DELETE", "503", "503")
    with pytest.raises(ObjectUnavailable, match="delete: the object store answered 503"):
        key_store().delete("name")


def test_a_bucket_that_is_not_there_is_no_missing_object(stub):
    stub.fail("GET", "no bucket")
    with pytest.raises(ObjectUnavailable, match="404 NoSuchBucket"):
        key_store().get("name")


def test_threads_share_one_client_and_environment_credentials_are_ignored(stub, monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", base64.b64encode(b"someone else").decode())
    store = R2Storage(**stub.options)
    clients = []
    threads = [threading.Thread(target=lambda: clients.append(store.client)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(client) for client in clients}) == 1
    store.put("name", BODY)
    assert "X-Amz-Security-Token" not in stub.headers
