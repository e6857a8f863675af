"""GET of one record, as an integrator does it (R4 http, 3.1.0.1 to 3.1.0.7)."""

from tests.world import World, a_consent, an_observation, denied_to

Who = dict[str, str]


async def _observed(world: World, who: Who, **more: str) -> str:
    await world.patient(who, "p1")
    made = await world.post("Observation", an_observation("p1", **more), who)
    assert made.status_code == 201, made.text
    return str(made.headers["location"]).split("/fhir/Observation/")[1].split("/")[0]


async def test_a_record_is_read_back_with_its_digits_and_its_version(world: World, rx1: Who) -> None:
    id = await _observed(world, rx1, value="6.30")
    answer = await world.get(f"Observation/{id}", rx1)
    assert answer.status_code == 200
    assert '"value":6.30' in answer.text
    assert answer.headers["etag"] == 'W/"1"'
    assert answer.headers["content-type"].startswith("application/fhir+json")
    assert answer.json()["meta"]["versionId"] == "1"
    assert answer.headers["cache-control"] == "no-store"


async def test_an_unchanged_record_is_not_sent_again_but_the_question_is_recorded(
    world: World, rx1: Who
) -> None:
    id = await _observed(world, rx1)
    before = len(await world.audit())
    answer = await world.get(f"Observation/{id}", rx1, If_None_Match='W/"1"')
    assert (answer.status_code, answer.content) == (304, b"")
    assert len(await world.audit()) == before + 1


async def test_what_consent_withholds_looks_like_what_never_was(world: World, rx1: Who, rx2: Who) -> None:
    id = await _observed(world, rx1)
    assert (await world.get(f"Observation/{id}", rx2)).status_code == 200
    made = await world.post("Consent", a_consent("p1", **denied_to("RX2")), rx1)
    assert made.status_code == 201, made.text
    hidden = await world.get(f"Observation/{id}", rx2)
    absent = await world.get("Observation/there-is-no-such", rx2)
    assert (hidden.status_code, hidden.content) == (404, absent.content)
    assert set(hidden.headers) == set(absent.headers)
    assert (await world.get(f"Observation/{id}", rx1)).status_code == 200


async def test_a_revoked_consent_opens_the_record_at_the_next_request(
    world: World, rx1: Who, rx2: Who
) -> None:
    id = await _observed(world, rx1)
    consent = a_consent("p1", **denied_to("RX2"))
    await world.put("Consent/c1", {**consent, "id": "c1"}, rx1)
    assert (await world.get(f"Observation/{id}", rx2)).status_code == 404
    await world.put("Consent/c1", {**consent, "id": "c1", "status": "inactive"}, rx1)
    assert (await world.get(f"Observation/{id}", rx2)).status_code == 200


async def test_a_deleted_record_is_gone_and_its_past_stays(world: World, rx1: Who) -> None:
    id = await _observed(world, rx1)
    assert (await world.delete(f"Observation/{id}", rx1)).status_code == 204
    gone = await world.get(f"Observation/{id}", rx1)
    assert (gone.status_code, gone.json()["issue"][0]["code"]) == (410, "deleted")
    assert (await world.get(f"Observation/{id}/_history/1", rx1)).status_code == 200
    assert (await world.get(f"Observation/{id}/_history/2", rx1)).status_code == 410
    assert (await world.get(f"Observation/{id}/_history/3", rx1)).status_code == 404


async def test_a_deleted_record_that_was_withheld_is_not_told_to_have_existed(
    world: World, rx1: Who, rx2: Who
) -> None:
    id = await _observed(world, rx1)
    await world.post("Consent", a_consent("p1", **denied_to("RX2")), rx1)
    await world.delete(f"Observation/{id}", rx1)
    assert (await world.get(f"Observation/{id}", rx2)).status_code == 404
    assert (await world.get(f"Observation/{id}/_history", rx2)).status_code == 404


async def test_history_tells_every_version_newest_first(world: World, rx1: Who) -> None:
    id = await _observed(world, rx1)
    changed = an_observation("p1", value="80", id=id)
    assert (await world.put(f"Observation/{id}", changed, rx1)).status_code == 200
    await world.delete(f"Observation/{id}", rx1)
    bundle = (await world.get(f"Observation/{id}/_history", rx1)).json()
    assert (bundle["type"], bundle["total"]) == ("history", 3)
    assert [one["request"]["method"] for one in bundle["entry"]] == ["DELETE", "PUT", "POST"]
    assert "resource" not in bundle["entry"][0]
    assert bundle["entry"][2]["resource"]["valueQuantity"]["value"] == 72


async def test_a_type_in_the_wrong_case_is_not_found(world: World, rx1: Who) -> None:
    answer = await world.get("patient/p1", rx1)
    assert answer.status_code == 404
    assert answer.json()["resourceType"] == "OperationOutcome"


async def test_without_a_token_nothing_is_answered(world: World, rx1: Who) -> None:
    id = await _observed(world, rx1)
    answer = await world.http.get(f"/fhir/Observation/{id}")
    assert answer.status_code == 401
    assert "Bearer" in answer.headers["www-authenticate"]
    assert answer.json()["issue"][0]["code"] == "login"


async def test_who_shows_no_valid_token_is_recorded_as_nobody(world: World, rx1: Who) -> None:
    id = await _observed(world, rx1)
    before = len(await world.audit())
    for header in ({}, {"Authorization": "Bearer not.a.token"}):
        await world.http.get(f"/fhir/Observation/{id}", headers=header)
    events = (await world.audit())[before:]
    assert [event["outcome"] for event in events] == ["4", "4"]
    for event in events:
        assert "401" in event["outcomeDesc"]
        assert not any(agent["requestor"] for agent in event["agent"])
        assert event["entity"][0]["description"] == f"/fhir/Observation/{id}"


async def test_too_many_without_a_valid_token_are_turned_away_unrecorded(world: World, rx1: Who) -> None:
    id = await _observed(world, rx1)
    before = len(await world.audit())
    turned_away = [await world.http.get(f"/fhir/Observation/{id}") for _ in range(600)]
    statuses = [answer.status_code for answer in turned_away]
    assert statuses[:100] == [401] * 100
    assert statuses[-1] == 429 and turned_away[-1].headers["retry-after"]
    assert len(await world.audit()) - before == statuses.count(401)
    assert (await world.get(f"Observation/{id}", rx1)).status_code == 200, "who has a token is not kept out"


async def test_a_scope_for_another_type_does_not_read_and_says_what_would(world: World, rx1: Who) -> None:
    id = await _observed(world, rx1)
    narrow = await world.bearer("rx1", scope="system/Patient.rs")
    answer = await world.get(f"Observation/{id}", narrow)
    assert answer.status_code == 403
    assert "system/Observation.rs" in answer.headers["www-authenticate"]


async def test_a_stopped_client_is_refused_at_its_next_request(world: World, rx1: Who, rx2: Who) -> None:
    from app.smart.clients import ClientRegister

    id = await _observed(world, rx1)
    assert (await world.get(f"Observation/{id}", rx2)).status_code == 200
    await ClientRegister(world.owner).deactivate("rx2")
    assert (await world.get(f"Observation/{id}", rx2)).status_code == 401
