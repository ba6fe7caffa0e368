from __future__ import annotations

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RemoteSettingsChanged
from h2.settings import SettingCodes

from dohproxy.protocol.http2 import open_http2


def test_the_first_settings_refuse_pushes_and_limit_streams() -> None:
    server = H2Connection(H2Configuration(client_side=False))
    events = server.receive_data(open_http2(200).data_to_send())
    told = next(event for event in events if isinstance(event, RemoteSettingsChanged)).changed_settings
    assert (told[SettingCodes.ENABLE_PUSH].new_value, told[SettingCodes.MAX_CONCURRENT_STREAMS].new_value) == (0, 200)
