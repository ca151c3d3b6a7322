"""Route guide: all four kinds of calls."""

import asyncio
import math
import sys

import grpc
import route_guide_pb2
import route_guide_pb2_grpc
from serving import serve

FEATURES = [
    route_guide_pb2.Feature(
        name=name, location=route_guide_pb2.Point(latitude=latitude, longitude=longitude)
    )
    for name, latitude, longitude in (
        ("Patriots Path, Mendham", 407838351, -746143763),
        ("101 New Jersey 10, Whippany", 408122808, -743999179),
        ("U.S. 6, Shohola", 413628156, -749015468),
        ("5 Conners Road, Kingston", 419999544, -740371136),
        ("somewhere south", 300000000, -740000000),
    )
]


def find_feature(point):
    return next((each for each in FEATURES if each.location == point), None)


def distance(start, end):
    """Metres between two points, by the haversine formula."""
    lat1, lon1, lat2, lon2 = (
        math.radians(degrees / 1e7)
        for degrees in (start.latitude, start.longitude, end.latitude, end.longitude)
    )
    a = (
        math.sin((lat2 - lat1) / 2) ** 2
        + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    )
    return 2 * 6371000 * math.asin(math.sqrt(a))


class RouteGuide(route_guide_pb2_grpc.RouteGuideServicer):
    async def GetFeature(self, request, context):
        return find_feature(request) or route_guide_pb2.Feature(location=request)

    async def ListFeatures(self, request, context):
        lo, hi = request.lo, request.hi
        for feature in FEATURES:
            where = feature.location
            if (
                lo.latitude <= where.latitude <= hi.latitude
                and lo.longitude <= where.longitude <= hi.longitude
            ):
                yield feature

    async def RecordRoute(self, request_iterator, context):
        summary = route_guide_pb2.RouteSummary()
        previous = None
        travelled = 0.0
        async for point in request_iterator:
            summary.point_count += 1
            summary.feature_count += find_feature(point) is not None
            if previous is not None:
                travelled += distance(previous, point)
            previous = point
        summary.distance = int(travelled)
        return summary

    async def RouteChat(self, request_iterator, context):
        earlier = []
        async for note in request_iterator:
            for each in earlier:
                if each.location == note.location:
                    yield each
            earlier.append(note)


async def server(address):
    server = grpc.aio.server()
    route_guide_pb2_grpc.add_RouteGuideServicer_to_server(RouteGuide(), server)
    await serve(server, address)


def notes():
    for message, latitude, longitude in (
        ("First message", 0, 0),
        ("Second message", 0, 1),
        ("Third message", 1, 0),
        ("Fourth message", 0, 0),
        ("Fifth message", 1, 0),
    ):
        location = route_guide_pb2.Point(latitude=latitude, longitude=longitude)
        yield route_guide_pb2.RouteNote(message=message, location=location)


async def client(target):
    async with grpc.aio.insecure_channel(target) as channel:
        stub = route_guide_pb2_grpc.RouteGuideStub(channel)

        for point in (FEATURES[0].location, route_guide_pb2.Point()):
            feature = await stub.GetFeature(point)
            print(f"feature {feature.name!r} at {feature.location.latitude}")

        rectangle = route_guide_pb2.Rectangle(
            lo=route_guide_pb2.Point(latitude=400000000, longitude=-750000000),
            hi=route_guide_pb2.Point(latitude=420000000, longitude=-730000000),
        )
        async for feature in stub.ListFeatures(rectangle):
            print("feature", feature.name)

        # Plain and asynchronous iterators do, and so does write().
        print(await stub.RecordRoute(feature.location for feature in FEATURES))

        async def visit():
            for feature in reversed(FEATURES):
                await asyncio.sleep(0)
                yield feature.location

        print(await stub.RecordRoute(visit()))
        call = stub.RecordRoute()
        for feature in FEATURES[:2]:
            await call.write(feature.location)
        await call.done_writing()
        print(await call)

        async for note in stub.RouteChat(notes()):
            print("received", note.message, "at", note.location.latitude, note.location.longitude)

        chat = stub.RouteChat()
        for note in notes():
            await chat.write(note)
        await chat.done_writing()
        while (note := await chat.read()) is not grpc.aio.EOF:
            print("read", note.message)
        print(await chat.code())


if __name__ == "__main__":
    asyncio.run({"server": server, "client": client}[sys.argv[1]](sys.argv[2]))
