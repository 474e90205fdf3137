"""The plan of the demonstration is a plan, and no file of it holds a secret."""

from pathlib import Path

from demo.certificates import write_origin_files
from demo.ledger import Ledger
from demo.origins import HOSTS, Origins, random_credentials
from demo.standing import PLACES, credential_variables, plan_document, write_standing
from sallyport.plan.codec import parse_plan, seal


def test_the_plan_is_valid() -> None:
    compiled = parse_plan(seal(plan_document()))
    assert [route.egress_rule_id for route in compiled.egress_routes] == ["openai", "github-api", "github-git"]


def test_places_name_variables_and_no_file_holds_a_secret(tmp_path: Path) -> None:
    credentials = random_credentials()
    files = write_origin_files(tmp_path, ["api.openai.com"])
    origins = Origins(port=1, hosts=HOSTS, files=files, ledger=Ledger(), repositories=tmp_path)
    standing = write_standing(tmp_path, origins)
    written = standing.gateway_settings.read_text() + standing.plan.read_text()
    for name, value in credential_variables(credentials).items():
        assert any(place.endswith(f"=env:{name}") for place in PLACES)
        assert value not in written
